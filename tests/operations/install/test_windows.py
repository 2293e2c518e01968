"""The whole plan for Windows, with Windows' tools and the management commands played."""

from __future__ import annotations

import datetime
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from apps.operations.install import answers as answering
from apps.operations.install import runner as running
from apps.operations.install import windows
from apps.operations.install.answers import Answers
from apps.operations.install.runner import Completed
from apps.operations.install.steps import StepFailed
from tests.operations.install.fake_windows import FakeWindows

HOST = "ens.example.com"


class Server(FakeWindows):
    """A Windows server on which the management commands do what they should."""

    def __init__(self, answers: Answers) -> None:
        own = windows.places(answers)
        super().__init__(env_file=own.env_file, logs=own.logs)
        self.done: list[str] = []

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """See Runner."""
        words = list(argv)
        if "manage.py" not in words:
            return super().run(argv, input)
        name, *rest = words[words.index("manage.py") + 1 :]
        if "--check" in rest:
            return Completed(0, "[]") if name in self.done else Completed(1)
        self.done.append(name)
        if name in ("ens_master_key", "cns_certificate"):
            (file,) = (value for word, value in (environment or {}).items() if "KEY_FILE" in word)
            Path(file).write_text("a key")
        return Completed(0)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate and its key, in files."""
    home = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (home / "tls.pem").write_bytes(made.public_bytes(Encoding.PEM))
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "tls.key").write_bytes(key.private_bytes(*form))
    return {
        "tls.certificate_file": str(home / "tls.pem"),
        "tls.key_file": str(home / "tls.key"),
    }


@pytest.fixture
def given(tmp_path: Path, tls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PROGRAMDATA", str(tmp_path / "ProgramData"))
    (tmp_path / "password").write_text("correct horse battery 9\n")
    return {
        "accept_license": True,
        "link_address": f"https://{HOST}/MailNotificationService/api/ens",
        "database.kind": "sqlite",
        "administrator.password_file": str(tmp_path / "password"),
        "worker.processes": 2,
        **tls,
    }


def install(server: Server, answers: Answers) -> int:
    plan = windows.plan(answers, server, None)
    running.check(plan, lambda _line: None)
    return running.apply(plan, lambda _line: None)


def test_everything_is_there_and_a_second_run_changes_nothing(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    assert install(server, answers) > 10
    assert {name for kind, name in server.objects if kind == "app"} == {
        "ENS/",
        "ENS/MailNotificationService",
        "ENS-Console/",
        "ENS-Console/MailNotificationService",
    }
    assert server.objects["site", "ENS"]["bindings"] == ",https/*:443:"
    assert server.objects["site", "ENS-Console"]["bindings"] == ",https/*:8443:"
    assert {name: kept["state"] for name, kept in server.services.items()} == {
        "ENSWorker": "4",
        "ENSBeat": "4",
    }
    assert "--processes 2" in server.services["ENSWorker"]["binPath="]
    assert server.registry == {"ErrorLoggingFields": "0x74884c7"}
    iis = windows.place(answers).iis
    assert {path.name for path in Path(iis).iterdir()} == {"site", "web", "console"}
    assert "ENS_ROLES" in (Path(iis) / "web" / "web.config").read_text()

    server.commands.clear()
    assert install(server, answers) == 0
    assert server.commands == []


def test_what_was_undone_is_done_again_and_no_more(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    install(server, answers)
    server.commands.clear()
    server.objects["apppool", "ENS"]["startMode"] = "OnDemand"
    server.services["ENSBeat"]["state"] = "1"
    assert install(server, answers) == 2
    assert [words[-1] for words in server.commands] == ["/startMode:AlwaysRunning", "ENSBeat"]


def test_new_settings_restart_services_and_web_processes(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    install(server, answers)
    config = Path(windows.place(answers).application) / "web.config"
    before = config.read_text()
    server.commands.clear()
    changed = answering.make(given | {"settings": {"ENS_LOG_LEVEL": "WARNING"}})
    install(server, changed)
    told = [words[1:3] for words in server.commands]
    assert told == [
        *(["stop", "ENSWorker"], ["start", "ENSWorker"]),
        *(["stop", "ENSBeat"], ["start", "ENSBeat"]),
    ]
    assert config.read_text() != before


def test_no_secret_is_on_a_command_line(given: dict[str, Any]) -> None:
    """Neither the key of the certificate nor its password; both open by what PowerShell got."""
    answers = answering.make(given)
    server = Server(answers)
    install(server, answers)
    (script,) = server.inputs
    encoded, password = script.split("FromBase64String('")[1].split("'")[:3:2]
    opened = pkcs12.load_pkcs12(b64decode(encoded), password.encode())
    assert opened.cert is not None
    common_names = opened.cert.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [one.value for one in common_names] == [HOST]
    assert opened.key is not None
    lines = " ".join(word for words in server.commands for word in words)
    assert password not in lines
    assert "correct horse" not in lines


def test_accounts_get_what_they_need_and_no_more(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    install(server, answers)
    own = windows.places(answers)
    accounts = [
        r"IIS AppPool\ENS",
        r"IIS AppPool\ENS-Console",
        *(rf"NT SERVICE\ENS{name}" for name in ("Beat", "Worker")),
    ]
    administrators = "*S-1-5-32-544:(OI)(CI)(F)"
    reads = [administrators, *(f"{one}:(OI)(CI)(RX)" for one in accounts)]
    writes = [administrators, *(f"{one}:(OI)(CI)(M)" for one in accounts)]
    assert server.access == {
        str(own.programs): reads,
        str(own.settings): reads,
        str(own.data): writes,
        str(own.logs): writes,
        str(windows.place(answers).iis): reads[:3],
        str(own.token_file): ["*S-1-5-32-544:(F)"],
    }
    rights = next(n for n, words in enumerate(server.commands) if "icacls" in words[0])
    assert not any("start" in words for words in server.commands[:rights])


def test_a_group_managed_account_runs_all(given: dict[str, Any]) -> None:
    answers = answering.make(given | {"service.account": "EXAMPLE\\svc-ens$"})
    server = Server(answers)
    install(server, answers)
    assert server.services["ENSWorker"]["obj="] == "EXAMPLE\\svc-ens$"
    assert server.objects["apppool", "ENS"]["processModel.userName"] == "EXAMPLE\\svc-ens$"
    assert {who.partition(":(")[0] for kept in server.access.values() for who in kept} == {
        "*S-1-5-32-544",
        "EXAMPLE\\svc-ens$",
    }


@pytest.mark.parametrize(
    ("cns", "relay", "web_host"),
    [
        # One name: one site with two applications. Two names: two sites, told apart by SNI.
        (f"https://{HOST}", ("ENS", "ENS-Relay", "", "/nws"), ""),
        ("https://cns.example.com", ("ENS-Relay", "ENS-Relay", "cns.example.com", "/nws"), HOST),
    ],
)
def test_web_and_relay_may_share_a_port(
    given: dict[str, Any], cns: str, relay: tuple[str, ...], web_host: str
) -> None:
    answers = answering.make(given | {"components": "web,console,relay", "cns.url": cns})
    found = {
        name: (site.name, site.pool_name, site.host, site.prefix)
        for name, site in windows.sites(answers).items()
    }
    assert found == {
        "web": ("ENS", "ENS", web_host, "/MailNotificationService"),
        "console": ("ENS-Console", "ENS-Console", "", "/MailNotificationService"),
        "relay": relay,
    }


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"service.account": "EXAMPLE\\anna"}, "account"),
        ({"link_address": f"https://{HOST}/api/ens"}, "iis_name"),
        ({"iis.gateway": "wfastcgi"}, "wfastcgi_missing"),
        # IIS listens on all addresses of a port.
        ({"console.listen": "192.0.2.1:443"}, "same_port"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_changed(
    given: dict[str, Any], more: dict[str, Any], code: str
) -> None:
    answers = answering.make(given | more)
    server = Server(answers)
    with pytest.raises(StepFailed) as failed:
        install(server, answers)
    assert failed.value.code == code
    assert server.commands == []
    assert not windows.places(answers).env_file.exists()


def test_it_must_run_as_administrator(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    server.elevated = False
    with pytest.raises(StepFailed, match="as administrator"):
        install(server, answers)


def test_a_missing_handler_is_named_and_the_next_run_goes_on(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    server.handler = False
    with pytest.raises(StepFailed, match="Install HttpPlatformHandler"):
        install(server, answers)
    server.handler = True
    install(server, answers)
    assert server.services["ENSWorker"]["state"] == "4"


def test_it_is_taken_off_again(given: dict[str, Any]) -> None:
    answers = answering.make(given)
    server = Server(answers)
    install(server, answers)
    plan = windows.removal(answers, server, everything=True)
    running.apply(plan, lambda _line: None)
    assert server.services == {}
    assert not [name for kind, name in server.objects if kind in ("site", "apppool")]
    assert server.certificates == {}
    assert server.registry == {}
    assert not windows.places(answers).settings.exists()
    assert running.apply(windows.removal(answers, server, everything=True), lambda _: None) == 0


def test_the_interpreter_behind_a_virtual_environment(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "Scripts" / "python.exe"
    assert windows.base_python(python) == python
    python.parent.mkdir(parents=True)
    home = tmp_path / "Python313"
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.13.1\n")
    assert windows.base_python(python) == home / "python.exe"
