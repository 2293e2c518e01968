"""Push apps that change while the relay runs, and rows that release 0.1 left behind."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from apps.cns.channel import load_channel
from apps.cns.client import CnsClient, Push
from apps.relay.models import PushApp
from apps.relay.providers.apns.credentials import read_credentials
from apps.relay.providers.apns.token import SigningKey
from apps.relay.push_apps import opened
from apps.vault.wrapping import wrap
from tests.relay.conftest import TEAM, Site
from tests.relay.servers import RelayProcess

OWN_APP = "com.example.changing"
# What each process remembers of callers and apps, with a little room (five seconds are promised).
KNOWN_S = 1.2


def new_key(site: Site) -> tuple[str, tuple[Any, ...]]:
    key = site.apns.new_key(TEAM, [OWN_APP])
    file = site.relay.home / f"{key.key_id}.p8"
    file.write_text(key.p8)
    options = ("--key-file", file, "--key-id", key.key_id, "--team-id", TEAM)
    return key.key_id, ("--app", OWN_APP, *options)


def ask(site: Site, process: RelayProcess, push: Push) -> tuple[str, str]:
    """One push by this process; its status and reason."""
    notification = {name: getattr(push, name) for name in push.__slots__ if name != "request_id"}
    body = json.dumps({"version": 1, "notifications": [notification]}).encode()
    channel = load_channel(site.channel)
    path = "/nws/notify/apns"
    signature = channel.sign(site.relay.audience, "POST", path, body, time.time())
    headers = {"Content-Type": "application/json", "ENS-Signature": signature}
    status, answer = process.post(body, headers)
    assert status == 200
    (result,) = answer["results"]
    return result["status"], result.get("reason", "")


@pytest.mark.slow
def test_replaced_credentials_serve_in_every_process_at_once(site: Site) -> None:
    old, first = new_key(site)
    site.relay.manage("relay_push_app", "add", *first, "--share", "ours")
    token = site.apns.register(OWN_APP)
    second = site.relay.serve()
    try:
        both = (site.process, second)
        for process in both:
            assert ask(site, process, site.push(token, app=OWN_APP)) == ("accepted", "")
        site.apns.revoke_key(old)
        refused = ("failed", "InvalidProviderToken")
        assert ask(site, second, site.push(token, app=OWN_APP)) == refused
        assert "TROUBLE" in site.relay.manage("relay_push_app", "list")
        _, fresh = new_key(site)
        said = site.relay.manage("relay_push_app", "replace", *fresh)
        assert "shared with: ours" in said
        assert "TROUBLE" not in said
        time.sleep(KNOWN_S)
        for process in both:
            assert ask(site, process, site.push(token, app=OWN_APP)) == ("accepted", "")
        site.relay.manage("relay_push_app", "unshare", "--app", OWN_APP, "--with", "ours")
        time.sleep(KNOWN_S)
        for process in both:
            push = site.push(token, app=OWN_APP)
            assert ask(site, process, push) == ("failed", "app_not_allowed")
    finally:
        second.stop()


@pytest.mark.parametrize(
    ("fields", "around"),
    [
        ({}, '{"aps":{"alert":""}}'),
        (
            {"push_type": "background", "priority": 5, "collapse_id": ""},
            '{"aps":{"content-available":1},"x":""}',
        ),
    ],
)
async def test_limits_hold_on_the_bytes_that_apple_gets(
    site: Site, client: CnsClient, token: str, fields: dict[str, Any], around: str
) -> None:
    """The pretend APNs measures what it gets: 4,096 bytes are taken, and one more is refused."""
    results = []
    for length in (4096, 4097):
        filler = "x" * (length - len(around))
        payload = json.loads(around.replace('""', f'"{filler}"'))
        results += await client.send("apns", [site.push(token, payload=payload, **fields)])
    assert [(r.status, r.reason) for r in results] == [
        ("accepted", ""),
        ("failed", "PayloadTooLarge"),
    ]
    assert site.apns.answers[413, "PayloadTooLarge"] == 0
    (result,) = await client.send("apns", [site.push(token, collapse_id="c" * 64)])
    assert result.status == "accepted"


@pytest.mark.django_db
def test_a_key_of_release_0_1_goes_on_working() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    p8 = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    place = {"table": "relay_push_app", "row": f"apns:{OWN_APP}", "purpose": "provider_key"}
    PushApp.objects.create(
        platform="apns",
        app=OWN_APP,
        key_id="KEYID12345",
        team_id=TEAM,
        sealed_key=wrap(p8, **place),
    )
    app = PushApp.objects.get()
    assert app.shown == {"kind": "token", "key_id": "KEYID12345", "team_id": TEAM}
    assert read_credentials(opened(app).credentials) == SigningKey("KEYID12345", TEAM, p8)
