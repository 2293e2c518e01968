"""docs/install-linux.md from its first line to its last, on a clean tree, until a phone rings.

PostgreSQL, Redis and nginx are Debian's, on free ports. There is no systemd: the units are read by
`systemd-analyze verify`, and what their ExecStart lines say is started as written (units.py).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from apps.lab.ca import LabCa
from apps.lab.phone import Account, Apns, EnsClient, Phone, Push
from apps.lab.stand.child import Program
from apps.lab.stand.facts import APP_ID, DemoUser
from apps.lab.stand.lab import Lab
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.postgres import Postgres
from apps.lab.stand.side import clean_environment
from apps.lab.stand.waiting import until
from apps.operations.install.files import release_files
from ens_project.env import BASE_DIR
from tests.e2e import units
from tests.e2e.grounds import skip_without_servers
from tests.e2e.guide import Guide
from tests.e2e.road import RING_S, Exchange

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
]

LONGEST = 2082
MARK = "sealed-credentials-of-somebody"
# apt-get simulates: every package must be there to be had. There is no systemd to speak to.
STUBS = {
    "apt-get": '#!/bin/sh\nexec /usr/bin/apt-get --simulate --quiet=2 "$@"\n',
    "systemctl": "#!/bin/sh\nexit 0\n",
}


class Ground:
    """The lab, PostgreSQL, Redis, and directories in which everything is."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca = LabCa(home)
        self.tls = self.ca.issue("ens")
        self.lab = Lab(home / "lab")
        self.port, self.console_port, self.second_port = (free_port() for _ in range(3))
        self.redis_port = free_port()
        self.postgres = Postgres(self.lab.logs)
        self.link = f"https://{HOST}:{self.port}/MailNotificationService/api/ens"
        self.programs = home / "opt" / "ens"
        self.secrets = home / "root" / "ens"
        self.first, self.second = home / "first", home / "second"

    def start(self) -> None:
        """Start what an administrator finds: mail server, APNs, PostgreSQL."""
        self.lab.start()
        self.lab.supervisor.start(self.postgres.set_up())
        self.lab.wait_for("postgres", self.postgres.answers)

    def stop(self) -> None:
        """End everything."""
        self.lab.stop()
        self.postgres.close()

    def redis(self, conf: Path) -> None:
        """Start Redis with what the guide wrote."""
        self.run("redis", ["redis-server", str(conf)])

    def run(self, name: str, command: list[str]) -> None:
        """Start a program of the system."""
        log = self.lab.logs / f"{name}.log"
        environment = clean_environment()
        self.lab.supervisor.start(Program(name, command, environment, self.home, log))

    def services(self, root: Path, *names: str) -> None:
        """Start what units say, `worker` as its instance 1."""
        for name in names:
            at = "@" if name == "worker" else ""
            file = root / "etc/systemd/system" / f"ens-{name}{at}.service"
            program = units.program(file, self.lab.logs, "1" if at else "")
            # Those of the second server beside those of the first.
            called = f"{root.name}-{name}"
            self.lab.supervisor.start(
                Program(called, program.command, program.environment, program.directory,
                        self.lab.logs / f"{called}.log")
            )  # fmt: skip

    def nginx(self, root: Path) -> None:
        """Start nginx with the site, and around it what Debian's nginx.conf has."""
        own = root / "nginx"
        own.mkdir()
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{path}_temp_path {own}/{path};" for path in paths)
        (root / "run").mkdir()
        # Another account's workers could not get at what is in a test's directory.
        user = "user root root;\n" if os.geteuid() == 0 else ""
        file = own / "nginx.conf"
        file.write_text(
            f"{user}daemon off;\npid {root}/run/nginx.pid;\nerror_log {own}/error.log info;\n"
            f"events {{}}\nhttp {{\n{temporary}\naccess_log {own}/access.log;\n"
            f"include {root}/etc/nginx/conf.d/*.conf;\n}}\n"
        )
        subprocess.run(
            [units.system_program("nginx"), "-t", "-q", "-c", str(file)], check=True, timeout=20
        )
        self.run(f"{root.name}-nginx", [units.system_program("nginx"), "-c", str(file)])

    def get(self, url: str) -> requests.Response:
        """A GET that trusts our CA."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=10, verify=str(self.ca.pem_file), allow_redirects=False)

    def post(self, url: str) -> int:
        """The status that a POST is answered with."""
        with requests.Session() as session:
            session.trust_env = False
            return session.post(url, b"<x/>", timeout=10, verify=str(self.ca.pem_file)).status_code

    def answers(self, url: str, status: int = 200) -> bool:
        """Whether it is answered so."""
        try:
            return self.get(url).status_code == status
        except requests.RequestException:
            return False


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    skip_without_servers()
    for program in ("nginx", "systemd-analyze", "logrotate"):
        units.system_program(program)
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("install")
        made = Ground(home)
        # Exchange calls us only if it trusts the CA of our certificate.
        patch.setenv("SSL_CERT_FILE", str(made.ca.pem_file))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def the_guide(ground: Ground) -> Guide:
    """The page with this test's names; packages are simulated, Python is this one."""
    stubs = ground.home / "stubs"
    stubs.mkdir()
    for name, text in STUBS.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    key, database = ground.lab.provider_key, urlsplit(ground.postgres.url)
    return Guide(
        {
            "/opt/ens/venv/bin/pip": f"{sys.executable} -m pip",
            "/opt/ens/venv/bin/python": sys.executable,
            "venv/bin/python": sys.executable,
            "/opt/ens": str(ground.programs),
            "ens.tar.gz": str(ground.home / "ens.tar.gz"),
            "/etc/redis/redis.conf": str(ground.home / "redis.conf"),
            "redis://localhost:6379": f"redis://{HOST}:{ground.redis_port}",
            "redis://redis.example.com:6379": f"redis://{HOST}:{ground.redis_port}",
            "/root/ens": str(ground.secrets),
            "/root/ens/ens.example.com.pem": str(ground.tls.certificate),
            "/root/ens/ens.example.com.key": str(ground.tls.key),
            "/etc/ens": str(ground.first / "etc/ens"),
            "ens.example.com": f"{HOST}:{ground.port}",
            "create = true": f'create = true\nname = "{NAME}"\nuser = "{NAME}"\n'
            f'host = "{HOST}"\nport = {database.port}\n'
            f'admin_user = "{database.username}"\nadmin_password_file = "superuser.txt"',
            'host = "db.example.com"': f'host = "{HOST}"\nport = {database.port}\n'
            f'name = "{NAME}"\nuser = "{NAME}"',
            "mail.example.com --ca-file /root/ens/exchange-ca.pem": (
                f"{urlsplit(ground.lab.ews_url).netloc} --ca-file {ground.lab.exchange_ca}"
            ),
            "/root/ens/AuthKey.p8": str(key.p8_file),
            "ABC123DEFG": key.key_id,
            "DEF123GHIJ": key.team_id,
        },
        stubs,
    )


NAME = "ens_installed"


def options(root: Path, web: int, console: int, ground: Ground) -> str:
    """What is different on this server: a tree of its own, nobody who starts things, ports."""
    lab = ground.lab
    return " ".join(
        [
            f"--root {root} --service-manager none --python {sys.executable} --unattended",
            f"--web-listen {HOST}:{web} --console-listen {HOST}:{console}",
            f"--web-port {free_port()} --console-port {free_port()} --relay-port {free_port()}",
            f"--cns-ca-file {ground.ca.pem_file}",
            "--setting ENS_GUARD_EXCEPTIONS=127.0.0.0/8 --setting ENS_LOG_LEVEL=WARNING",
            f"--setting ENS_RELAY_APNS_URL={lab.apns_url}",
            f"--setting ENS_RELAY_APNS_CA_FILE={lab.apns_ca}",
        ]
    )


def test_from_the_first_line_of_the_guide_to_the_last(ground: Ground) -> None:
    guide = the_guide(ground)
    one = options(ground.first, ground.port, ground.console_port, ground)
    two = options(ground.second, ground.second_port, free_port(), ground)
    _programs(ground, guide)
    guide.next()  # the directory of answers
    (ground.secrets / "superuser.txt").write_text(f"{urlsplit(ground.postgres.url).password}\n")
    guide.next()  # the answers
    said = guide.next(one)
    assert "Nothing was changed." in said
    assert not ground.first.exists()
    said = guide.next(one)
    assert f"ENSLinkAddress  {ground.link}" in said
    _nothing_secret(said, ground.first)
    _files_are_closed(ground.first)
    _units_are_sound(ground.first)
    _rotation_is_understood(ground.first)
    _start_first(ground)
    guide.next()  # mail system and push app
    phone, exchange = _joined(ground), Exchange(ground.lab.exchange_control)
    _rings(phone, exchange, "Through the first server")

    guide.next()  # config.xml
    password = _database_password(ground.first)
    (ground.secrets / "database-password.txt").write_text(password + "\n")
    guide.next()  # the further server's answers
    _changed_or_wrong_is_refused(ground, two)
    guide.next(two)
    ground.lab.supervisor.stop("first-worker")
    _start_second(ground)
    _rings(phone, exchange, "Through the second server's worker")

    _again_is_no_change(ground, one, two)
    guide_says = guide.next()  # the diagnosis
    assert "FAILED" not in guide_says, guide_says
    _urls_pass_and_are_not_logged(ground)
    guide.next(one)  # off again
    left = {path.name for path in ground.first.rglob("*") if path.is_file()}
    assert {"ens.env", "master.key", "cns.pem", "api-token.txt"} <= left
    assert not any(name.startswith("ens-") for name in left) and "ens.conf" not in left
    assert guide.is_through()


def _programs(ground: Ground, guide: Guide) -> None:
    """The guide's first two parts, with a release made of this working tree."""
    with tarfile.open(ground.home / "ens.tar.gz", "w:gz") as release:
        for file in release_files(BASE_DIR):
            release.add(BASE_DIR / file, str(file))
    conf = ground.home / "redis.conf"
    conf.write_text(f"port {ground.redis_port}\nbind {HOST}\ndir {ground.home}\nsave ''\n")
    guide.do("1. Packages")
    ground.redis(conf)
    guide.do("2. Programs")
    assert not (ground.programs / "apps" / "lab").exists()


def _nothing_secret(said: str, root: Path) -> None:
    token = (root / "var/lib/ens/api-token.txt").read_text().strip()
    for secret in (token, _database_password(root), "correct horse", "BEGIN"):
        assert secret not in said


def _database_password(root: Path) -> str:
    env = (root / "etc/ens/ens.env").read_text()
    (line,) = [line for line in env.splitlines() if line.startswith("ENS_DATABASE_URL=")]
    found = urlsplit(line.partition("=")[2]).password
    assert found is not None and len(found) > 20
    return found


def _files_are_closed(root: Path) -> None:
    modes = {
        "etc/ens": 0o750,
        "etc/ens/ens.env": 0o640,
        "etc/ens/master.key": 0o600,
        "etc/ens/cns.pem": 0o600,
        "var/lib/ens": 0o700,
        "var/lib/ens/api-token.txt": 0o600,
    }
    assert {name: (root / name).stat().st_mode & 0o7777 for name in modes} == modes


def _units_are_sound(root: Path) -> None:
    """By systemd's own word, warnings included; and how exposed they are, of 10."""
    directory = root / "etc/systemd/system"
    names = sorted(str(path) for path in directory.glob("ens*"))
    assert len(names) == 6
    # A template is read by one of its instances.
    instance = directory / "ens-worker@1.service"
    shutil.copy(directory / "ens-worker@.service", instance)
    files = [name for name in names if "@" not in name] + [str(instance)]
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *files],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        for file in files:
            if file.endswith(".service"):
                subprocess.run(
                    ["systemd-analyze", "security", "--offline=yes", "--threshold=25", file],
                    capture_output=True, check=True, timeout=60,
                )  # fmt: skip
    finally:
        instance.unlink()


def _rotation_is_understood(root: Path) -> None:
    words = ["--debug", "--state", str(root / "rotated"), str(root / "etc/logrotate.d/ens")]
    done = subprocess.run(
        [units.system_program("logrotate"), *words],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()


def _start_first(ground: Ground) -> None:
    ground.services(ground.first, "web", "console", "worker", "beat", "relay")
    ground.nginx(ground.first)
    console = f"https://{HOST}:{ground.console_port}/MailNotificationService/console/"
    ground.lab.wait_for("first-web", lambda: ground.answers(f"{ground.link}/alive"))
    ground.lab.wait_for("first-console", lambda: ground.answers(console, 302))
    # What the internet reaches has no console.
    public = f"https://{HOST}:{ground.port}/MailNotificationService"
    assert ground.answers(f"{public}/console/", 404)
    assert ground.answers(f"{public}/metrics", 404)


def _start_second(ground: Ground) -> None:
    assert "ENS_LINK_ADDRESS=" + ground.link in (ground.second / "etc/ens/ens.env").read_text()
    keys = [(root / "etc/ens/master.key").read_bytes() for root in (ground.first, ground.second)]
    assert keys[0] == keys[1]
    channels = [(root / "etc/ens/cns.pem").read_bytes() for root in (ground.first, ground.second)]
    assert channels[0] != channels[1]
    ground.services(ground.second, "web", "worker")
    ground.nginx(ground.second)
    alive = ground.link.replace(str(ground.port), str(ground.second_port)) + "/alive"
    ground.lab.wait_for("second-web", lambda: ground.answers(alive))


def _joined(ground: Ground) -> Phone:
    """A phone of a new user, with the token that the installation left."""
    name = f"anna-{secrets.token_hex(4)}"
    user = DemoUser("Anna", f"{name}@example.com", f"EXAMPLE\\{name}", secrets.token_hex(8))
    Exchange(ground.lab.exchange_control).add(user)
    token = (ground.first / "var/lib/ens/api-token.txt").read_text().strip()
    client = EnsClient(ground.link, token, str(ground.ca.pem_file))

    def has_keys() -> bool:
        try:
            return bool(client.public_key())
        except Exception:
            return False

    ground.lab.wait_for("first-worker", has_keys, 90)
    account = Account(user.address, user.username, user.password, ground.lab.ews_url)
    phone = Phone(account, client, Apns(ground.lab.apns_control), app_id=APP_ID)
    assert phone.join() == "active", phone.code
    return phone


def _rings(phone: Phone, exchange: Exchange, subject: str) -> None:
    user = DemoUser("", phone.account.email, "", "")
    exchange.deliver(user, subject)

    def rang() -> bool:
        found: list[Push] = [phone.checked(push) for push in phone.service.pushes(phone.token, 0)]
        return any(push.body == subject for push in found)

    until(f"«{subject}» on the phone", rang, RING_S)


def _install(ground: Ground, words: str, answers: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "ens_install", "--answers"]
    return subprocess.run(
        [*command, str(ground.secrets / answers), *words.split()],
        cwd=ground.programs,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _changed_or_wrong_is_refused(ground: Ground, words: str) -> None:
    """Neither leaves a trace."""
    password, file = ground.secrets / "config-password.txt", ground.secrets / "config.xml"
    right, whole = password.read_text(), file.read_bytes()
    password.write_text("eighteen green 5 candles\n")
    done = _install(ground, words, "further.toml")
    assert done.returncode == 1 and "the password is wrong; nothing was changed" in done.stderr
    password.write_text(right)
    file.write_bytes(whole.replace(b"<created>20", b"<created>19"))
    done = _install(ground, words, "further.toml")
    assert done.returncode == 1 and "changed after it was made" in done.stderr
    file.write_bytes(whole)
    assert not ground.second.exists()


def _state(root: Path) -> dict[str, tuple[int, str]]:
    """Every file that an installation writes: when, and its content."""
    found = {}
    for part in ("etc", "var/lib/ens/api-token.txt"):
        for path in [root / part, *(root / part).rglob("*")]:
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path)] = (path.stat().st_mtime_ns, digest)
    return found


def _again_is_no_change(ground: Ground, one: str, two: str) -> None:
    for root, words, answers in (
        (ground.first, f"--first {one}", "answers.toml"),
        (ground.second, two, "further.toml"),
    ):
        before = _state(root)
        done = _install(ground, words, answers)
        assert done.returncode == 0, done.stderr
        assert "No change." in done.stdout, done.stdout
        assert _state(root) == before


def _urls_pass_and_are_not_logged(ground: Ground) -> None:
    """The longest webhook URL reaches ENS; alive or dead, no log holds its query."""
    url = f"{ground.link}/notify?id=1.2.3&creds={MARK}"
    url += "x" * (LONGEST - len(url))
    assert ground.post(url) == 404
    # It was ENS that said so, since it had not made the URL; nginx would name no upstream.
    access = ground.first / "var/log/ens/nginx-access.log"
    notified = [line for line in access.read_text().splitlines() if "/notify" in line]
    assert '"upstream_status":"404"' in notified[-1]
    ground.lab.supervisor.stop("first-web")
    assert ground.post(url) == 502
    written = 0
    for root in (ground.first, ground.second):
        for log in [*(root / "nginx").glob("*.log"), *(root / "var/log/ens").glob("*")]:
            text = log.read_text("utf-8", "replace")
            written += len(text)
            assert MARK not in text and "creds=" not in text, log
    for log in ground.lab.logs.glob("*"):
        if not log.name.startswith("exchange"):
            assert MARK not in log.read_text("utf-8", "replace"), log
    assert written > 0
    assert '"status":502' in access.read_text()
