"""The checks APNs makes on one notification, apart from who sends it and to which phone.

Apple's pages:
https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
https://developer.apple.com/documentation/usernotifications/pushing-background-updates-to-your-app

Stricter than Apple, so that a mistake shows in a test rather than on a phone that stays silent: a
missing `apns-push-type`, and a payload whose content doesn't fit its type, are InvalidPushType; a
payload that isn't JSON with an `aps` object is PayloadEmpty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.lab.apns.answers import Refused

MAX_PAYLOAD_BYTES = 4096
MAX_COLLAPSE_ID_BYTES = 64
_PATH = re.compile(r"/3/device/(?P<token>[^/?#]*)")
_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")
_TOPIC = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SINGLE_HEADERS = frozenset(
    [
        "authorization",
        "apns-id",
        "apns-topic",
        "apns-push-type",
        "apns-priority",
        "apns-expiration",
        "apns-collapse-id",
    ]
)


@dataclass(frozen=True, slots=True)
class Push:
    """A notification that passed every check that needs no knowledge of phones."""

    token: str = field(repr=False)
    topic: str
    push_type: str
    priority: int
    expiration: int
    collapse_id: str
    payload: dict[str, Any] = field(repr=False)


def single_headers(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The headers as a mapping; raises Refused(DuplicateHeaders) for a repeated one of ours."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name in found and name in _SINGLE_HEADERS:
            raise Refused("DuplicateHeaders")
        found[name] = value
    return found


def message_id(headers: Mapping[str, str], fresh: UUID) -> str:
    """The `apns-id` to echo, or `fresh` when none came; raises Refused(BadMessageId)."""
    given = headers.get("apns-id")
    if given is None:
        return str(fresh)
    if not _UUID.fullmatch(given):
        raise Refused("BadMessageId")
    return given


def device_token(headers: Mapping[str, str]) -> str:
    """The token in the path, lower-case; raises Refused for another method, path or form."""
    if headers.get(":method") != "POST":
        raise Refused("MethodNotAllowed")
    path = _PATH.fullmatch(headers.get(":path", ""))
    if path is None:
        raise Refused("BadPath")
    if not path["token"]:
        raise Refused("MissingDeviceToken")
    if not _TOKEN.fullmatch(path["token"]):
        raise Refused("BadDeviceToken")
    return path["token"].lower()


def topic(headers: Mapping[str, str]) -> str:
    """The bundle id in `apns-topic`; raises Refused(MissingTopic or BadTopic)."""
    given = headers.get("apns-topic")
    if not given:
        raise Refused("MissingTopic")
    if not _TOPIC.fullmatch(given):
        raise Refused("BadTopic")
    return given


def push(headers: Mapping[str, str], body: bytes, token: str, for_topic: str) -> Push:
    """Check the remaining headers and the payload; raises Refused."""
    push_type = headers.get("apns-push-type")
    if push_type not in ("alert", "background"):
        raise Refused("InvalidPushType")
    collapse_id = headers.get("apns-collapse-id", "")
    if len(collapse_id.encode()) > MAX_COLLAPSE_ID_BYTES:
        raise Refused("BadCollapseId")
    priority = _priority(headers, push_type)
    expiration = _expiration(headers)
    payload = _payload(body)
    _check_content(push_type, payload["aps"])
    return Push(token, for_topic, push_type, priority, expiration, collapse_id, payload)


def _priority(headers: Mapping[str, str], push_type: str) -> int:
    given = headers.get("apns-priority", "10")
    if given not in ("10", "5", "1"):
        raise Refused("BadPriority")
    if push_type == "background" and given != "5":
        raise Refused("BadPriority")
    return int(given)


def _expiration(headers: Mapping[str, str]) -> int:
    given = headers.get("apns-expiration", "0")
    if not re.fullmatch(r"[0-9]{1,12}", given):
        raise Refused("BadExpirationDate")
    return int(given)


def _payload(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_PAYLOAD_BYTES:
        raise Refused("PayloadTooLarge")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("PayloadEmpty") from None
    if not isinstance(found, dict) or not isinstance(found.get("aps"), dict) or not found["aps"]:
        raise Refused("PayloadEmpty")
    return found


def _check_content(push_type: str, aps: dict[str, Any]) -> None:
    visible = aps.keys() & {"alert", "badge", "sound"}
    if push_type == "background":
        fits = not visible and aps.get("content-available") == 1
    else:
        fits = bool(visible)
    badge = aps.get("badge", 0)
    if not fits or isinstance(badge, bool) or not isinstance(badge, int):
        raise Refused("InvalidPushType")
