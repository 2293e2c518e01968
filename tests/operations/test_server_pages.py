"""What docs/upgrade.md and docs/high-availability.md tell people to type, tried as written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dj_database_url
import pytest
import requests
from django.db.utils import ConnectionHandler

from apps.eventlog.connection import connect
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.side import ROOT, clean_environment
from apps.lab.stand.waiting import until
from ens_project.env import EnsSettings
from tests.postgres import Postgres, postgres  # noqa: F401

UPGRADE = (ROOT / "docs" / "upgrade.md").read_text("utf-8")
SERVERS = (ROOT / "docs" / "high-availability.md").read_text("utf-8")
LONGEST = 2082
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _commands() -> list[str]:
    blocks = re.findall(r"(?s)```sh\n(.*?)```", UPGRADE + SERVERS)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python manage.py")]


@pytest.mark.slow
def test_commands_work_as_written(tmp_path: Path) -> None:
    settings = {
        "ENS_ENV_FILE": str(tmp_path / "no.env"),
        "ENS_SECRET_KEY": "only-for-tests-0123456789-0123456789",
        "ENS_LINK_ADDRESS": "http://127.0.0.1:9/MailNotificationService/api/ens",
        "ENS_DATA_DIR": str(tmp_path),
        "ENS_MASTER_KEY_FILE": str(tmp_path / "master.key"),
    }
    commands = list(dict.fromkeys(_commands()))
    assert len(commands) == 4
    # The page begins where something is installed already.
    first = [
        "python manage.py ens_master_key",
        "python manage.py migrate --plan",
        "python manage.py migrate",
    ]
    said = {}
    for command in [*first, *(each for each in commands if each not in first)]:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=ROOT,
            env=clean_environment() | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        # A diagnosis of what doesn't run finds fault; it doesn't fail.
        assert done.returncode in ((0, 1) if "diagnose" in command else (0,)), done.stderr
        assert "Traceback" not in done.stderr
        said[command] = done.stdout
    assert "operations.0001_initial" in said["python manage.py migrate --plan"]
    assert "beat's turn" in said["python manage.py diagnose --area deployment"]
    assert "current" in said["python manage.py diagnose"]


class _Server:
    """A web server that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                asked[len(self.path)] += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def two() -> Iterator[tuple[_Server, _Server]]:
    servers = _Server(), _Server()
    yield servers
    for each in servers:
        each.stop()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_the_load_balancer_spreads_and_passes_over_what_is_dead(
    two: tuple[_Server, _Server], tmp_path: Path
) -> None:
    (block,) = re.findall(r"(?s)<!-- test: nginx -->\n```nginx\n(.*?)```", SERVERS)
    port = free_port()
    for address, ours in (
        ("192.0.2.11:8000", f"{HOST}:{two[0].port}"),
        ("192.0.2.12:8000", f"{HOST}:{two[1].port}"),
        ("192.0.2.10:80", f"{HOST}:{port}"),
    ):
        assert block.count(address) == 1
        block = block.replace(address, ours)
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"pid {tmp_path}/pid; events {{}}\nhttp {{ client_body_temp_path {tmp_path}/body;\n"
        f"proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/f;\n"
        f"uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n{block} }}\n"
    )
    words = [str(NGINX), "-p", str(tmp_path), "-c", str(file), "-e", "stderr", "-g", "daemon off;"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    url = f"http://{HOST}:{port}/MailNotificationService/api/ens/notify?creds="
    url += "x" * (LONGEST - len(url))

    def posts() -> int:
        return requests.post(url, data=b"<x/>", timeout=10).status_code

    def answers() -> bool:
        try:
            return posts() == 200
        except requests.ConnectionError:
            return False

    try:
        until("nginx", answers, 20)
        assert [posts() for _ in range(10)] == [200] * 10
        asked = [sum(server.asked.values()) for server in two]
        assert min(asked) >= 4, asked
        two[0].stop()
        assert [posts() for _ in range(10)] == [200] * 10
        assert sum(two[0].asked.values()) == asked[0]
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_settings_of_the_page_are_settings() -> None:
    lines = re.findall(r"(?m)^(ENS_[A-Z_]+)=(.*)$", SERVERS)
    values = {name.removeprefix("ENS_").lower(): value for name, value in lines}
    assert len(values) == 4
    EnsSettings.model_validate(
        values | {"secret_key": "x" * 40, "link_address": "https://x", "master_key_file": "x"}
    )
    connect(values["event_log_url"])  # names Sentinels that nobody asks yet
    known = {f"ENS_{name.upper()}" for name in EnsSettings.model_fields} | {"ENS_ENV_FILE"}
    assert set(re.findall(r"`(ENS_[A-Z_]+)`", UPGRADE + SERVERS)) <= known


@pytest.mark.django_db
def test_of_several_database_servers_the_one_that_answers_is_used(
    postgres: Postgres,  # noqa: F811
) -> None:
    (url,) = re.findall(r"(?m)^ENS_DATABASE_URL=(.*)$", SERVERS)
    known = postgres.create_database()
    for old, new in (
        ("<password>", known["PASSWORD"]),
        # Nobody listens at the first.
        ("db-1.example.com,db-2.example.com", f"127.0.0.2,{HOST}:{known['PORT']}"),
        ("/ens?", f"/{known['NAME']}?"),
    ):
        assert url.count(old) == 1
        url = url.replace(old, new)
    connections = ConnectionHandler({"default": dj_database_url.parse(url)})
    began = time.monotonic()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT inet_server_addr()")
        assert cursor.fetchone() == (HOST,)
    assert time.monotonic() - began < 10
    connections["default"].close()
