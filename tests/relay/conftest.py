"""A relay with a pretend APNs behind it and two deployments that may call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from apps.cns.channel import make_channel
from apps.cns.client import CnsClient, Push
from apps.lab.apns import LabApns
from apps.lab.fcm import LabFcm
from tests.relay.servers import ApnsThread, FcmThread, Relay, RelayProcess

APP = "com.example.mail"
OTHER_APP = "com.stranger.mail"
TEAM = "TEAM123456"
PROJECT = "lab-mail-1"


@dataclass
class Site:
    """The relay, running, and the channels of its deployments (private key and certificate)."""

    relay: Relay
    process: RelayProcess
    apns: LabApns
    fcm: LabFcm
    channel: bytes
    stranger: bytes

    def push(self, token: str, **changes: Any) -> Push:
        fields = {
            "id": str(uuid4()),
            "app": APP,
            "token": token,
            "push_type": "alert",
            "priority": 10,
            "expiration": 0,
            "collapse_id": uuid4().hex,
            "payload": {"aps": {"alert": {"title": "Anna", "body": "Über uns"}, "badge": 1}},
        }
        return Push(**fields | changes)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("relay")
    (home / "google").mkdir()
    thread, google = ApnsThread(home), FcmThread(home / "google")
    relay = Relay(home, thread.apns, google.fcm)
    channels = {}
    for name, app in (("ours", APP), ("stranger", OTHER_APP)):
        key, certificate = make_channel(name)
        channels[name] = key + certificate
        (home / f"{name}.pem").write_bytes(certificate)
        relay.manage(
            "relay_deployment", "add", "--name", name, "--certificate", home / f"{name}.pem"
        )
        provider = thread.apns.new_key(TEAM, [app])
        (home / f"{name}.p8").write_text(provider.p8)
        ids = ("--key-id", provider.key_id, "--team-id", TEAM)
        files = ("--key-file", home / f"{name}.p8", "--share", name)
        relay.manage("relay_push_app", "add", "--app", app, *ids, *files)
    (home / "google.json").write_text(google.fcm.new_account(PROJECT).file)
    account = ("--service-account", home / "google.json", "--share", "ours")
    relay.manage("relay_push_app", "add", "--app", APP, *account)
    process = relay.serve(relay.port)
    made = Site(relay, process, thread.apns, google.fcm, channels["ours"], channels["stranger"])
    yield made
    made.process.stop()
    thread.stop()
    google.stop()


@pytest.fixture(autouse=True)
def no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "site" in request.fixturenames:
        request.getfixturevalue("site").apns.faults.clear()
        request.getfixturevalue("site").fcm.clear_faults()


@pytest.fixture
def token(site: Site) -> str:
    return site.apns.register(APP)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[CnsClient]:
    made = CnsClient(site.process.url, site.channel)
    yield made
    await made.close()
