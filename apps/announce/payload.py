"""What a phone is sent. The formats are in docs/device-api.md, the limits are Apple's.

https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Final

from apps.exchange.interface import Item

MAX_PAYLOAD_BYTES: Final = 4096
VERSION: Final = 1
NEW_MAIL: Final = "New mail"
NO_SUBJECT: Final = "(no subject)"
LEVELS: Final = ("none", "generic", "sender", "sender_subject")
_TITLE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Content:
    """What an announcement may say; empty strings where nothing is known or allowed."""

    sender: str = field(default="", repr=False)
    subject: str = field(default="", repr=False)


def content_of(item: Item) -> Content:
    """Sender and subject of an item, as people read them."""
    sender = _clean(item.sender_name) or _clean(item.sender_address)
    return Content(sender=sender[:_TITLE_CHARACTERS], subject=_clean(item.subject) or NO_SUBJECT)


def narrowed(content: Content | None, level: str) -> Content | None:
    """Content cut down to a level; None: only «New mail» may be said."""
    if content is None or level in ("none", "generic"):
        return None
    return Content(sender=content.sender) if level == "sender" else content


def announcement(content: Content | None, badge: int | None, item_ref: str) -> dict[str, Any]:
    """The payload of an announcement, at most 4096 bytes: the subject is cut, nothing else."""
    subject = content.subject if content else ""
    payload = _announcement(content, subject, badge, item_ref)
    excess = _size(payload) - MAX_PAYLOAD_BYTES
    while excess > 0 and subject:
        # Every character is one byte at least, so this ends; most are cut in one go.
        subject = subject[: max(0, len(subject) - max(1, excess // 4) - 1)]
        payload = _announcement(content, subject.rstrip() + "…", badge, item_ref)
        excess = _size(payload) - MAX_PAYLOAD_BYTES
    return payload


def badge_correction(badge: int) -> dict[str, Any]:
    """The payload that only sets the badge."""
    return {"aps": {"badge": badge}, "ens": {"v": VERSION, "kind": "badge"}}


def _announcement(
    content: Content | None, subject: str, badge: int | None, item_ref: str
) -> dict[str, Any]:
    alert = {"title": content.sender if content and content.sender else NEW_MAIL}
    if subject:
        alert["body"] = subject
    aps: dict[str, Any] = {"alert": alert, "sound": "default"}
    if badge is not None:
        aps["badge"] = badge
    return {"aps": aps, "ens": {"v": VERSION, "kind": "announcement", "item": item_ref}}


def _size(payload: dict[str, Any]) -> int:
    return len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())


def _clean(text: str) -> str:
    """One line without control and direction-override characters, in composed form."""
    kept = (
        " " if character.isspace() else character
        for character in text
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cs", "Co", "Cn")
    )
    line = " ".join("".join(kept).split())
    return unicodedata.normalize("NFC", line.translate(_DIRECTION))


_DIRECTION: Final = dict.fromkeys((*range(8234, 8239), *range(8294, 8298)))
