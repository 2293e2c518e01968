"""What the relay takes as a notification, and what it says to the rest."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from apps.relay.batch import parse_batch
from apps.relay.providers import Notification, Outcome

GOOD: dict[str, Any] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "app": "com.example.mail",
    "token": "ab" * 32,
    "push_type": "alert",
    "priority": 10,
    "expiration": 1_900_000_000,
    "collapse_id": "item",
    "payload": {"aps": {"alert": "Grüße"}},
}


def parse(platform: str = "apns", **changes: Any) -> Notification | Outcome:
    notification = {name: v for name, v in (GOOD | changes).items() if v is not ...}
    (item,) = parse_batch(
        json.dumps({"version": 1, "notifications": [notification]}).encode(), platform
    )
    assert item.id == GOOD["id"]
    return item.asked


def test_a_good_one_is_taken_as_it_is() -> None:
    assert parse() == Notification(
        id=GOOD["id"],
        app="com.example.mail",
        token="ab" * 32,
        push_type="alert",
        priority=10,
        expiration=1_900_000_000,
        collapse_id="item",
        payload='{"aps":{"alert":"Grüße"}}'.encode(),
    )


def test_members_of_a_later_version_are_ignored() -> None:
    assert isinstance(parse(later="x"), Notification)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "id"])
def test_every_member_is_needed_and_none_may_be_null(name: str) -> None:
    assert parse(**{name: ...}) == Outcome("failed", f"{name}_malformed")
    assert parse(**{name: None}) == Outcome("failed", f"{name}_malformed")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("app", "nodots"),
        ("app", "com.example.mail\n"),
        ("app", "com." + "x" * 152),
        ("app", "com.exämple.mail"),
        ("token", "ab" * 31),
        ("token", "ab" * 101),
        ("token", "ab" * 32 + "c"),
        ("token", "../" * 32),
        ("token", "ab" * 32 + "\n"),
        ("push_type", "Alert"),
        ("push_type", ["alert"]),
        ("priority", "10"),
        ("priority", 10.0),
        ("priority", True),
        ("expiration", 2**32),
        ("expiration", 1.5),
        ("expiration", False),
        ("collapse_id", "c" * 65),
        ("collapse_id", "two words"),
        ("collapse_id", "ü"),
        ("payload", []),
        ("payload", {"aps": []}),
        ("payload", {"aps": {"alert": "\ud83d"}}),
    ],
)
def test_what_is_malformed_is_named(name: str, value: Any) -> None:
    assert parse(**{name: value}) == Outcome("failed", f"{name}_malformed")


def test_a_background_push_has_priority_five() -> None:
    assert parse(push_type="background") == Outcome("failed", "priority_malformed")
    assert isinstance(parse(push_type="background", priority=5), Notification)


def test_the_payload_is_measured_as_apns_gets_it() -> None:
    room = 4096 - len('{"aps":{"alert":""}}')
    assert isinstance(parse(payload={"aps": {"alert": "x" * room}}), Notification)
    # Two bytes each on the way to Apple, six on the way to us.
    assert isinstance(parse(payload={"aps": {"alert": "ü" * (room // 2)}}), Notification)
    too_long = parse(payload={"aps": {"alert": "x" * (room + 1)}})
    assert too_long == Outcome("failed", "PayloadTooLarge")


def test_one_bad_notification_does_not_spoil_the_others() -> None:
    given = [GOOD | {"id": str(uuid4()), "priority": n} for n in (10, 7, 5)]
    items = parse_batch(json.dumps({"version": 1, "notifications": given}).encode(), "apns")
    assert [isinstance(item.asked, Notification) for item in items] == [True, False, True]


def test_a_notification_does_not_show_token_or_content() -> None:
    shown = repr(parse())
    assert "abab" not in shown
    assert "Gr" not in shown


ANDROID: dict[str, Any] = {
    "app": "com.example.my_mail",
    "token": "dQw4w9WgXcQ:APA91b" + "aZ0-_." * 20,
    "payload": {"data": {"v": "1", "title": "Grüße"}},
}


def test_what_is_for_android_has_its_own_forms() -> None:
    taken = parse("fcm", **ANDROID)
    assert isinstance(taken, Notification)
    assert taken.token == ANDROID["token"]
    assert json.loads(taken.payload) == ANDROID["payload"]
    assert parse("apns", **ANDROID) == Outcome("failed", "app_malformed")
    assert parse("fcm") == Outcome("failed", "payload_malformed")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"app": "com.example.my-mail"}, "app_malformed"),
        ({"app": "mail"}, "app_malformed"),
        ({"token": ""}, "token_malformed"),
        ({"token": "a/../b"}, "token_malformed"),
        ({"token": "a" * 4097}, "token_malformed"),
        ({"payload": {"data": {"v": 1}}}, "payload_malformed"),
        ({"payload": {"data": {"from": "x"}}}, "payload_malformed"),
        ({"payload": {"data": {}, "aps": {}}}, "payload_malformed"),
        ({"payload": {"data": {"v": "\ud800"}}}, "payload_malformed"),
        ({"payload": {"data": []}}, "payload_malformed"),
    ],
)
def test_what_is_wrong_for_android(change: dict[str, Any], reason: str) -> None:
    assert parse("fcm", **(ANDROID | change)) == Outcome("failed", reason)
