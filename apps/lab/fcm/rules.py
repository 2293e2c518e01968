"""The checks FCM makes on one message, apart from who sends it and to which phone.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages

Stricter than Google, so that a mistake shows in a test rather than on a phone that stays silent:
only data messages to one token, with `android.priority` and `android.ttl`, and no other members.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from apps.lab.fcm.answers import Refused

MAX_DATA_BYTES = 4096
MAX_TTL_S = 28 * 24 * 3600
_TTL = re.compile(r"([0-9]{1,8})(\.[0-9]{1,9})?s")
_TOKEN = re.compile(r"[A-Za-z0-9_:.-]{20,4096}")
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")


@dataclass(frozen=True, slots=True)
class Message:
    """A message that passed every check that needs no knowledge of phones; `ttl_s` in seconds."""

    token: str = field(repr=False)
    package: str
    priority: str
    ttl_s: float
    collapse_key: str
    data: dict[str, str] = field(repr=False)


def parse(body: bytes) -> Message:
    """Read the body of `messages:send`; raises Refused(INVALID_ARGUMENT)."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        _refuse("Invalid JSON payload received.", "")
    message = _member(content, "message", "message")
    if unknown := message.keys() - {"token", "data", "android"}:
        _refuse(f"Unknown name: {sorted(unknown)}", "message")
    token = message.get("token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        _refuse("Invalid registration token", "message.token")
    android = _member(message, "android", "message.android")
    if unknown := android.keys() - {"priority", "ttl", "collapse_key", "restricted_package_name"}:
        _refuse(f"Unknown name: {sorted(unknown)}", "message.android")
    priority, collapse_key = android.get("priority"), android.get("collapse_key", "")
    if priority not in ("HIGH", "NORMAL"):
        _refuse("Invalid value", "message.android.priority")
    if not isinstance(collapse_key, str):
        _refuse("Invalid value", "message.android.collapse_key")
    package = android.get("restricted_package_name", "")
    if not isinstance(package, str) or not _PACKAGE.fullmatch(package):
        _refuse("Invalid value", "message.android.restricted_package_name")
    data = _data(_member(message, "data", "message.data"))
    return Message(token, package, priority, _ttl(android.get("ttl")), collapse_key, data)


def _data(given: dict[str, Any]) -> dict[str, str]:
    size = 0
    for name, value in given.items():
        if not isinstance(value, str):
            _refuse("Invalid value (TYPE_STRING)", "message.data[0].value")
        if name in ("from", "message_type") or name.startswith(("google", "gcm")):
            _refuse("Invalid data payload key", f"message.data[{name}]")
        size += len(name.encode()) + len(value.encode())
    if size > MAX_DATA_BYTES:
        # Google names no member here.
        _refuse("Android message is too big", "")
    return given


def _ttl(given: Any) -> float:
    found = _TTL.fullmatch(given) if isinstance(given, str) else None
    if found is None or float(given[:-1]) > MAX_TTL_S:
        _refuse("Invalid TTL", "message.android.ttl")
    return float(given[:-1])


def _member(parent: Any, name: str, path: str) -> dict[str, Any]:
    found = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(found, dict):
        _refuse("Invalid value", path)
    return found


def _refuse(message: str, field: str) -> NoReturn:
    raise Refused("INVALID_ARGUMENT", message, field)
