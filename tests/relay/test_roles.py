"""The relay alone with a small database of its own, and beside ENS in the same process."""

from __future__ import annotations

import http.client
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from apps.cns.channel import make_channel
from apps.cns.client import CnsClient, Push
from tests.relay.conftest import APP, TEAM, Site
from tests.relay.servers import ROOT, Relay, RelayProcess

ALIVE = "/MailNotificationService/api/ens/alive"


def tables(home: Path) -> set[str]:
    with closing(sqlite3.connect(home / "ens.sqlite3")) as database:
        rows = database.execute("select name from sqlite_master where type = 'table'")
        return {name for (name,) in rows if not name.startswith(("sqlite_", "django_"))}


def status_of(process: RelayProcess, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def test_alone_it_has_its_own_tables_and_serves_nothing_else(site: Site) -> None:
    rooms = {name.partition("_")[0] for name in tables(site.relay.home)}
    # That of operations is beat's lease, which no relay takes.
    assert rooms == {"relay", "vault", "operations"}
    assert status_of(site.process, "/nws/ready") == 200
    for path in (ALIVE, "/MailNotificationService/api/ens/ready", "/metrics", "/"):
        assert status_of(site.process, path) == 404


def test_ens_starts_without_the_relays_tables(site: Site) -> None:
    settings = site.relay.environment | {"ENS_ROLES": "device-api,notify,metrics,console,admin-api"}
    words = [sys.executable, "-c", "import ens_project.wsgi, ens_project.urls"]
    done = subprocess.run(words, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def beside(site: Site, tmp_path: Path) -> Iterator[tuple[Relay, RelayProcess, bytes]]:
    relay = Relay(tmp_path, site.apns, site.fcm, roles="device-api,notify,relay")
    key, certificate = make_channel("beside")
    (tmp_path / "cns.pem").write_bytes(certificate)
    provider = site.apns.new_key(TEAM, [APP])
    (tmp_path / "key.p8").write_text(provider.p8)
    relay.manage("relay_deployment", "add", "--name", "here", "--certificate", tmp_path / "cns.pem")
    relay.manage(
        *("relay_push_app", "add", "--app", APP, "--key-file", tmp_path / "key.p8"),
        *("--key-id", provider.key_id, "--team-id", TEAM, "--share", "here"),
    )
    process = relay.serve(relay.port)
    yield relay, process, key + certificate
    process.stop()


@pytest.mark.slow
async def test_beside_ens_in_one_process(
    site: Site, token: str, beside: tuple[Relay, RelayProcess, bytes]
) -> None:
    relay, process, channel = beside
    assert {"relay_deployment", "devices_device"} <= tables(relay.home)
    assert status_of(process, ALIVE) == 200
    client = CnsClient(relay.audience, channel)
    sent = Push(str(uuid4()), APP, token, "alert", 10, 0, "", {"aps": {"badge": 1}})
    (result,) = await client.send("apns", [sent])
    await client.close()
    assert result.status == "accepted"
    assert len(site.apns.phones.arrivals(token)) == 1
