"""The Linux half: exact commands, texts that survive odd paths, and what is looked at first."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.lab.ca import LabCa
from apps.operations.install import common, linux, runner
from apps.operations.install.answers import Answers, make
from apps.operations.install.runner import Completed
from apps.operations.install.steps import StepFailed
from tests.e2e import units
from tests.operations.install.recorder import Recorder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Linux only")

LINK = "https://ens.example.com/MailNotificationService/api/ens"
ALL = "web,console,worker,beat,relay"


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    files = LabCa(tmp_path).issue("tls", ["ens.example.com", "*.cns.example.com"])
    return {"tls.certificate_file": str(files.certificate), "tls.key_file": str(files.key)}


def answers(**given: Any) -> Answers:
    named = {name.replace("__", "."): value for name, value in given.items()}
    return make({"link_address": LINK, "accept_license": "yes"} | named)


def trial(tmp_path: Path, tls: dict[str, str], **given: Any) -> Answers:
    root = {"root": str(tmp_path / "tree"), "service.manager": "none"}
    return make({"link_address": LINK, "database.kind": "sqlite"} | root | tls | given)


def test_units_survive_spaces_and_percents(tmp_path: Path, tls: dict[str, str]) -> None:
    location = tmp_path / "größer 100%"
    made = trial(tmp_path, tls, location=str(location), python=str(location / "venv/bin/python"))
    directory = tmp_path / "units"
    directory.mkdir()
    for name, text in linux.units(made).items():
        (directory / name).write_text(text, "utf-8")
    program = units.program(directory / "ens-worker@.service", tmp_path, "2")
    assert program.command[:3] == [str(location / "venv/bin/python"), "-m", "celery"]
    assert program.command[-1] == "worker-2@%h"
    assert program.directory == location
    assert program.environment["ENS_ENV_FILE"] == str(tmp_path / "tree/etc/ens/ens.env")
    web = units.program(directory / "ens-web.service", tmp_path)
    assert web.environment["ENS_ROLES"] == "device-api,notify,metrics"


def test_only_what_runs_here_gets_units(tmp_path: Path, tls: dict[str, str]) -> None:
    made = answers(components="worker,beat", worker__processes="3")
    assert set(linux.units(made)) == {"ens.target", "ens-worker@.service", "ens-beat.service"}
    assert linux.services(made) == [f"ens-worker@{n}.service" for n in (1, 2, 3)] + [
        "ens-beat.service"
    ]
    plan = linux.plan(made, Recorder(), None)
    assert not any("nginx" in step.title for step in plan.steps)


def test_a_service_runs_as_the_account_that_is_named() -> None:
    text = linux.units(answers(components="beat", service__account="mailer"))["ens-beat.service"]
    assert "User=mailer\nGroup=mailer\n" in text
    for hardened in ("NoNewPrivileges=yes", "ProtectSystem=strict", "KillMode=mixed"):
        assert hardened in text
    assert "Restart=on-failure\n" in text


@pytest.mark.parametrize(
    ("cns", "servers"), [("https://ens.example.com", 2), ("https://a.cns.example.com", 3)]
)
def test_nginx_takes_the_site(tmp_path: Path, tls: dict[str, str], cns: str, servers: int) -> None:
    nginx = units.system_program("nginx")
    given = {"components": ALL, "cns.url": cns, "web.listen": "127.0.0.1:20443"}
    given |= {"console.listen": "127.0.0.1:20444", "relay.listen": "127.0.0.1:20443"}
    made = trial(tmp_path, tls, **given)
    site = linux.site(made)
    assert site.count("server_name") == servers
    assert "$request_uri" not in site and '"$request"' not in site and "$args" not in site
    (tmp_path / "tree/var/log/ens").mkdir(parents=True)
    (tmp_path / "site.conf").write_text(site)
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/e.log; events {{}}\n"
        f"http {{ access_log off; include {tmp_path}/site.conf; }}\n"
    )
    done = subprocess.run(
        [nginx, "-t", "-c", str(conf)], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_a_site_that_nginx_refuses_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "ens.conf"
    refusing = Recorder(
        lambda argv: Completed(1, "", "unknown directive") if "-t" in argv else None
    )
    with pytest.raises(StepFailed, match="taken back: unknown directive"):
        linux.Site(path, "new", refusing, live=True).apply()
    assert not path.exists()
    path.write_text("old")
    with pytest.raises(StepFailed):
        linux.Site(path, "new", refusing, live=True).apply()
    assert path.read_text() == "old"
    takes = Recorder()
    linux.Site(path, "new", takes, live=True).apply()
    assert takes.commands == [
        ["nginx", "-t", "-q"],
        ["systemctl", "reload-or-restart", "nginx.service"],
    ]


def places(home: Path) -> common.Places:
    """Those of a server where nothing is yet."""
    return common.Places(home / "opt", home / "python", home / "etc", home / "data", home / "logs")


def shown(**changed: str) -> str:
    found = {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "ActiveEnterTimestamp": "@4000000000",
        "StateChangeTimestamp": "@4000000000",
    }
    return "\n".join(f"{name}={value}" for name, value in (found | changed).items())


@pytest.mark.parametrize(
    "changed",
    [
        {"ActiveState": "failed"},
        {"UnitFileState": "disabled"},
        {"NeedDaemonReload": "yes"},
        {"ActiveEnterTimestamp": "@1000000000"},
        {"ActiveEnterTimestamp": ""},
    ],
)
def test_services_are_started_where_they_are_not_as_they_should_be(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    here = places(tmp_path)
    here.settings.mkdir(parents=True)
    here.env_file.touch()

    def systemctl(argv: Sequence[str]) -> Completed | None:
        if argv[1] == "show":
            return Completed(0, shown(**(changed if "ens-web.service" in argv else {})))
        return None

    record = Recorder(systemctl)
    step = linux.Services(["ens-web.service", "ens-beat.service"], here, record)
    assert step.needed()
    step.apply()
    assert record.commands[-3:] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "ens-web.service"],
        ["systemctl", "restart", "ens-web.service"],
    ]
    well = linux.Services(["ens-web.service"], here, Recorder(lambda _: Completed(0, shown())))
    assert not well.needed()


def test_services_that_are_not_wanted_any_more_end(tmp_path: Path) -> None:
    def systemctl(argv: Sequence[str]) -> Completed | None:
        if argv[1] == "list-units":
            return Completed(0, "ens-web.service loaded active running x\n"
                                "ens-worker@2.service loaded active running x\n")  # fmt: skip
        return Completed(0, shown())

    record = Recorder(systemctl)
    step = linux.Services(["ens-web.service"], places(tmp_path), record)
    assert step.needed()
    assert step.describe().splitlines()[-1] != ""
    step.apply()
    assert ["systemctl", "disable", "--now", "ens-worker@2.service"] in record.commands


def test_the_account_is_made_once_and_nobody_logs_in_as_it(tmp_path: Path) -> None:
    record = Recorder(lambda argv: Completed(1) if argv[0] == "id" else None)
    step = linux.Account("ens", Path("/var/lib/ens"), record)
    assert step.needed()
    step.apply()
    assert record.commands[-1] == [
        *("useradd", "--system", "--user-group", "--no-create-home"),
        *("--home-dir", "/var/lib/ens", "--shell", "/usr/sbin/nologin", "ens"),
    ]
    assert not linux.Account("ens", Path("/var/lib/ens"), Recorder()).needed()


def test_commands_run_as_the_account() -> None:
    made = answers(components="worker", location="/opt/ens", python="/opt/ens/venv/bin/python")
    record = Recorder()
    linux.manage(made, record).run("migrate")
    assert record.commands == [
        ["runuser", "-u", "ens", "--", "/opt/ens/venv/bin/python", "manage.py", "migrate"]
    ]


def test_keys_are_made_by_the_account_and_put_in_place_by_root(tmp_path: Path) -> None:
    here = places(tmp_path)
    here.data.mkdir()
    here.settings.mkdir()
    (here.data / ".master.key.new").write_text("of a run that was killed")
    written: list[str] = []

    class Makes(Recorder):
        def run(self, argv: Sequence[str], *more: Any, **options: Any) -> Completed:
            part = Path(options["environment"]["ENS_MASTER_KEY_FILE"])
            assert part.parent == here.data and not part.exists()
            part.write_text("k1:key")
            written.append(str(argv))
            return super().run(argv)

    step = common.Made(
        *("Key", here.master_key, "ens_master_key", "ENS_MASTER_KEY_FILE"),
        *(common.Manage(Makes(), here), common.Rights(0o600)),
    )
    assert step.needed() and "ens_master_key" in step.describe()
    step.apply()
    assert here.master_key.read_text() == "k1:key"
    assert list(here.data.iterdir()) == []
    here.master_key.chmod(0o640)
    assert step.needed() and "ens_master_key" not in step.describe()
    step.apply()
    assert not step.needed() and len(written) == 1
    here.master_key.unlink()
    failing = common.Made(
        *("Key", here.master_key, "ens_master_key", "ENS_MASTER_KEY_FILE"),
        *(common.Manage(Recorder(lambda _: Completed(1)), here), common.Rights(0o600)),
    )
    with pytest.raises(StepFailed):
        failing.apply()
    assert not here.master_key.exists()


def check(made: Answers, title: str) -> str:
    plan = linux.plan(made, Recorder(), None)
    (found,) = [one for one in plan.checks if one.title == title]
    return found.run()


def refused(made: Answers, title: str) -> str:
    with pytest.raises(StepFailed) as failed:
        check(made, title)
    return failed.value.code


def test_what_can_be_seen_beforehand_is(tmp_path: Path, tls: dict[str, str]) -> None:
    assert refused(trial(tmp_path, tls), "Licence") == "license"
    assert refused(trial(tmp_path, tls), "Administrator") == "administrator"
    assert refused(answers(), "TLS certificate") == "tls_missing"
    assert "ens.example.com, until" in check(trial(tmp_path, tls), "TLS certificate")
    other = LabCa(tmp_path).issue("other", ["mail.example.com"])
    swapped = tls | {"tls.key_file": str(other.key)}
    assert refused(trial(tmp_path, swapped), "TLS certificate") == "tls_mismatch"
    wrong = {"tls.certificate_file": str(other.certificate), "tls.key_file": str(other.key)}
    assert refused(trial(tmp_path, wrong), "TLS certificate") == "tls_name"
    upside_down = {"tls.certificate_file": tls["tls.key_file"], "tls.key_file": tls["tls.key_file"]}
    assert refused(trial(tmp_path, upside_down), "TLS certificate") == "tls_unreadable"
    relay = {"components": "relay", "cns.url": "https://elsewhere.example.com"}
    assert refused(trial(tmp_path, tls, **relay), "TLS certificate") == "tls_name"
    bad = {"settings": {"ENS_AUDIT_DAYS": "1"}}
    assert refused(trial(tmp_path, tls, **bad), "Settings") == "settings_invalid"
    key = {"master_key_file": str(tls["tls.key_file"])}
    assert refused(trial(tmp_path, tls, **key), "Master key") == "master_key"
    nowhere = {"redis.url": "redis://127.0.0.1:9"}
    assert refused(trial(tmp_path, tls, **nowhere), "Redis") == "redis"
    hidden = answers(components="worker", location="/root/ens", python="/root/ens/python")
    if linux.os.geteuid() == 0:
        assert refused(hidden, "This server") == "hidden"


def test_nothing_is_written_by_checks_and_dry_run(tmp_path: Path, tls: dict[str, str]) -> None:
    said: list[str] = []
    runner.dry_run(linux.plan(trial(tmp_path, tls), Recorder(), None), said.append)
    assert not (tmp_path / "tree").exists()
    assert any("ens-web.service" in line for line in said)


def test_a_resumed_run_does_not_draw_another_password(tmp_path: Path, tls: dict[str, str]) -> None:
    """The run ends after ens.env: what PostgreSQL would be told is what stands there."""
    made = trial(tmp_path, tls, **{"database.kind": "postgresql", "database.create": "yes"})
    step = common.EnvFile(made, linux.places(made), linux.access(made).settings)
    step.apply()
    text = linux.places(made).env_file.read_text()
    assert not step.needed()
    step.apply()
    assert linux.places(made).env_file.read_text() == text
    assert stat.S_IMODE(linux.places(made).env_file.stat().st_mode) == 0o640


def test_a_new_release_restarts_what_runs_the_old_one(tmp_path: Path) -> None:
    here = places(tmp_path)
    long_ago = Recorder(lambda _: Completed(0, shown(ActiveEnterTimestamp="@1600000000")))
    assert not linux.Services(["ens-beat.service"], here, long_ago).needed()
    here.programs.mkdir()
    (here.programs / "manage.py").touch()
    step = linux.Services(["ens-beat.service"], here, long_ago)
    assert step.needed()
    assert "restart ens-beat.service" in step.describe()


def test_nginx_reads_what_changed_since_it_last_did(tmp_path: Path) -> None:
    site, certificate = tmp_path / "ens.conf", tmp_path / "tls.pem"
    certificate.touch()

    def step(**changed: str) -> linux.Site:
        runs = Recorder(lambda _: Completed(0, shown(**changed)))
        return linux.Site(site, "text", runs, live=True, read=[certificate])

    assert step().needed()
    step().apply()
    assert not step().needed()
    # It was killed before the reload, the certificate was renewed, or nginx is down.
    assert step(StateChangeTimestamp="@1600000000").needed()
    assert step(ActiveState="failed").needed()


def test_a_site_that_can_not_be_loaded_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "ens.conf"
    down = Recorder(lambda argv: Completed(1, "", "down") if "reload-or-restart" in argv else None)
    with pytest.raises(StepFailed):
        linux.Site(path, "new", down, live=True).apply()
    assert not path.exists()


def test_root_runs_no_management_command_itself(tls: dict[str, str]) -> None:
    """What it made on the way (a database, folders) the services could not open."""
    made = make({"link_address": LINK, "cns.url": "https://cns.example.com", **tls})
    described = [step.describe() for step in linux.plan(made, Recorder(), None).steps]
    commands = [line for text in described for line in text.splitlines() if "manage.py" in line]
    assert len(commands) == 4
    assert all(line.startswith("run runuser -u ens -- ") for line in commands)


def test_a_relay_of_its_own_has_no_group_and_no_channel_key(
    tmp_path: Path, tls: dict[str, str]
) -> None:
    given = {"components": "relay", "cns.url": "https://a.cns.example.com", "link_address": ""}
    made = trial(tmp_path, tls, **given)
    plan = linux.plan(made, Recorder(), None)
    titles = {step.title for step in plan.steps}
    assert not titles & {"Secure channel key", common.First.title}
    assert set(linux.units(made)) == {"ens.target", "ens-relay.service"}
    assert linux.site(made).count("server_name a.cns.example.com;") == 1
    # Nor does a web server alone serve a relay, though it may be at the same address.
    web = trial(tmp_path, tls, **{"components": "web", "cns.url": "https://ens.example.com"})
    assert "/nws/" in linux.site(made) and "/nws/" not in linux.site(web)
    for title in ("TLS certificate", "Settings"):
        (check,) = [one for one in plan.checks if one.title == title]
        check.run()
