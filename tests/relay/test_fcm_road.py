"""From the CNS client over real HTTP through a relay process to a pretend FCM, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apps.cns.client import CnsClient, Push
from apps.lab.fcm import FcmFault
from apps.lab.fcm.accounts import new_account
from tests.relay.conftest import APP, OTHER_APP, PROJECT, Site

DATA = {"v": "1", "kind": "announcement", "item": "i", "title": "Anna", "body": "Über uns"}


@pytest.fixture
def phone(site: Site) -> str:
    return site.fcm.register(APP, PROJECT)


def push(site: Site, token: str, **changes: Any) -> Push:
    return site.push(token, **({"payload": {"data": DATA}} | changes))


async def test_a_push_reaches_the_phone_as_it_was_sent(
    site: Site, client: CnsClient, phone: str
) -> None:
    sent = push(site, phone, priority=5, collapse_id="badge")
    (result,) = await client.send("fcm", [sent])
    assert (result.id, result.status, result.reason) == (sent.id, "accepted", "")
    (arrival,) = site.fcm.phones.arrivals(phone)
    assert arrival.message.data == DATA
    assert (arrival.message.package, arrival.message.collapse_key) == (APP, "badge")


async def test_every_notification_has_a_result_of_its_own(
    site: Site, client: CnsClient, phone: str
) -> None:
    gone, foreign = site.fcm.register(APP, PROJECT), site.fcm.register(APP, "another-project")
    site.fcm.phones.unregister(gone)
    results = await client.send(
        "fcm",
        [
            push(site, phone),
            push(site, gone),
            push(site, foreign),
            push(site, phone, app=OTHER_APP),
            push(site, phone, payload={"data": {"k": "x" * 4096}}),
            push(site, phone, payload={"aps": {"badge": 1}}),
            push(site, "not/a/token"),
        ],
    )
    assert [(r.status, r.reason) for r in results] == [
        ("accepted", ""),
        ("dead", "UNREGISTERED"),
        ("dead", "SENDER_ID_MISMATCH"),
        ("failed", "app_not_allowed"),
        ("failed", "PayloadTooLarge"),
        ("failed", "payload_malformed"),
        ("failed", "token_malformed"),
    ]


async def test_with_another_projects_account_no_token_is_called_dead(
    site: Site, client: CnsClient, tmp_path: Path
) -> None:
    """Until the account has worked once, SENDER_ID_MISMATCH may be its fault."""
    app = "com.example.wrong_account"
    file = tmp_path / "google.json"
    file.write_text(site.fcm.new_account("another-project").file)
    words = ("--app", app, "--service-account", file, "--share", "ours")
    site.relay.manage("relay_push_app", "add", *words)
    token = site.fcm.register(app, PROJECT)
    (result,) = await client.send("fcm", [push(site, token, app=app)])
    assert (result.status, result.reason) == ("failed", "SENDER_ID_MISMATCH")


async def test_a_refused_account_is_shown_as_trouble(
    site: Site, client: CnsClient, tmp_path: Path
) -> None:
    app = "com.example.refused"
    file = tmp_path / "google.json"
    file.write_text(new_account(PROJECT)[0].file)
    words = ("--app", app, "--service-account", file, "--share", "ours")
    site.relay.manage("relay_push_app", "add", *words)
    token = site.fcm.register(app, PROJECT)
    (result,) = await client.send("fcm", [push(site, token, app=app)])
    assert (result.status, result.reason) == ("failed", "token_invalid_grant")
    listed = site.relay.manage("relay_push_app", "list")
    (line,) = [line for line in listed.splitlines() if app in line]
    assert "TROUBLE" in line and "token_invalid_grant" in line


async def test_a_quota_is_told_with_the_time_to_wait(
    site: Site, client: CnsClient, phone: str
) -> None:
    site.fcm.order(FcmFault("refuse", reason="UNAVAILABLE", retry_after_s=9))
    (result,) = await client.send("fcm", [push(site, phone)])
    assert (result.status, result.reason, result.retry_after_s) == ("retry", "UNAVAILABLE", 9.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "authorized_user"}, "service_account_wrong_type"),
        ({"token_uri": "https://evil.example/token"}, "token_uri_not_google"),
    ],
)
def test_an_unfit_file_is_refused_by_the_command(
    site: Site, tmp_path: Path, change: dict[str, str], word: str
) -> None:
    file = tmp_path / "google.json"
    content = json.loads(new_account(PROJECT)[0].file) | change
    file.write_text(json.dumps(content))
    words = ("--app", "com.example.unfit", "--service-account", file)
    said = site.relay.manage("relay_push_app", "add", *words, fails=True)
    assert word in said
    assert "PRIVATE" not in said and "evil" not in said


def test_an_app_through_sns_is_stored(site: Site, tmp_path: Path) -> None:
    arn = "arn:aws:sns:eu-central-1:123456789012:app/GCM/mail"
    content = {
        "region": "eu-central-1",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "platform_application_arn": arn,
    }
    file = tmp_path / "sns.json"
    file.write_text(json.dumps(content))
    words = ("--app", "com.example.cloud", "--share", "ours")
    said = site.relay.manage("relay_push_app", "add", *words, "--sns-apns", file, fails=True)
    assert "platform_application_of_another_platform" in said
    said = site.relay.manage("relay_push_app", "add", *words, "--sns-fcm", file)
    assert "fcm:com.example.cloud through sns  region=eu-central-1" in said
    assert content["secret_access_key"] not in said
