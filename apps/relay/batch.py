"""What a caller asks for, validated: one bad notification doesn't spoil the others.

Only what leaves no notification to answer (no JSON, no ids) refuses the whole call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from pydantic_core import PydanticSerializationError, from_json, to_json

from apps.relay.problems import Refused
from apps.relay.providers import Notification, Outcome
from apps.relay.providers.fcm.message import is_data

PROTOCOL_VERSION = 1
MAX_NOTIFICATIONS = 500
MAX_PAYLOAD_BYTES = 4096
# The latest second that fits where Apple reads it; also keeps absurd numbers out of headers.
_LATEST = 2**32 - 1

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# By platform: a bundle id, a package name.
APPS = {
    "apns": re.compile(r"(?=.{3,155}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"),
    "fcm": re.compile(r"(?=.{3,155}\Z)[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+"),
}
# By platform: a device token, a registration token, which is opaque text.
_TOKENS = {
    "apns": re.compile(r"(?:[0-9a-fA-F]{2}){32,100}"),
    "fcm": re.compile(r"[A-Za-z0-9_:.-]{1,4096}"),
}
_COLLAPSE_ID = re.compile(r"[\x21-\x7e]{0,64}")


class Item(NamedTuple):
    """One notification by its id: either valid, or refused with an outcome."""

    id: str
    asked: Notification | Outcome


def parse_batch(body: bytes, platform: str) -> list[Item]:
    """Read the body of a call that is meant for phones of one platform (`apns`, `fcm`).

    Raises:
        Refused: body_malformed, version_unsupported, too_many_notifications,
            notification_id_malformed, notification_id_repeated.
    """
    content = _parsed(body)
    if not isinstance(content, dict):
        raise Refused("body_malformed", "not an object")
    version = content.get("version")
    if type(version) is not int or version != PROTOCOL_VERSION:
        theirs = f"{version:d}"[:10] if type(version) is int else "none"
        detail = f"this relay speaks protocol version {PROTOCOL_VERSION}, the caller {theirs}"
        raise Refused("version_unsupported", detail, versions=[PROTOCOL_VERSION])
    asked = content.get("notifications")
    if not isinstance(asked, list) or not asked:
        raise Refused("body_malformed", "notifications: a list with something in it is needed")
    if len(asked) > MAX_NOTIFICATIONS:
        raise Refused("too_many_notifications", f"{MAX_NOTIFICATIONS} at most")
    rules = _RULES[platform]
    items = [_item(each, rules) for each in asked]
    if len({item.id for item in items}) < len(items):
        raise Refused("notification_id_repeated")
    return items


def _parsed(body: bytes) -> Any:
    try:
        # Several times as fast as the standard library's, which has the last word.
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refused("body_malformed", "not JSON") from None


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _item(asked: Any, rules: _Rules) -> Item:
    found = asked.get("id") if isinstance(asked, dict) else None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise Refused("notification_id_malformed", "a UUID in lower case is needed")
    bad = _malformed_member(asked, rules)
    if bad:
        return Item(found, Outcome("failed", f"{bad}_malformed"))
    payload = _payload_bytes(asked["payload"])
    if payload is None:
        return Item(found, Outcome("failed", "payload_malformed"))
    # FCM's limit is on something else; its provider sees to that.
    if len(payload) > MAX_PAYLOAD_BYTES and "aps" in asked["payload"]:
        return Item(found, Outcome("failed", "PayloadTooLarge"))
    return Item(
        found,
        Notification(
            found,
            asked["app"],
            asked["token"],
            asked["push_type"],
            asked["priority"],
            asked["expiration"],
            asked["collapse_id"],
            payload,
        ),
    )


def _malformed_member(asked: dict[str, Any], rules: _Rules) -> str:
    """The first member that is missing or not as it must be; empty for none.

    Spelt out, for this runs for each of thousands of pushes a second.
    """
    get = asked.get
    if not _matches(rules.app, get("app")):
        return "app"
    if not _matches(rules.token, get("token")):
        return "token"
    push_type, priority = get("push_type"), get("priority")
    if push_type != "alert" and push_type != "background":
        return "push_type"
    # A true is no number here.
    if type(priority) is not int or not (
        priority == 5 or (priority == 10 and push_type == "alert")
    ):
        return "priority"
    expiration = get("expiration")
    if type(expiration) is not int or not 0 <= expiration <= _LATEST:
        return "expiration"
    if not _matches(_COLLAPSE_ID, get("collapse_id")):
        return "collapse_id"
    return "" if rules.is_payload(get("payload")) else "payload"


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _payload_bytes(payload: dict[str, Any]) -> bytes | None:
    """The payload as APNs gets it; None for text that is no Unicode, as half a surrogate pair."""
    try:
        return to_json(payload)
    except (PydanticSerializationError, RecursionError):
        return None


def _is_aps(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("aps"), dict)


class _Rules(NamedTuple):
    """What differs by platform."""

    app: re.Pattern[str]
    token: re.Pattern[str]
    is_payload: Callable[[Any], bool]


_RULES = {
    "apns": _Rules(APPS["apns"], _TOKENS["apns"], _is_aps),
    "fcm": _Rules(APPS["fcm"], _TOKENS["fcm"], is_data),
}
