"""What a phone is sent. The formats are in docs/device-api.md, the limits Apple's and Google's.

https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification
https://firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from apps.announce.envelope import Envelope
from apps.cns.client import Service
from apps.exchange.interface import Item

# Of the payload in JSON. Google counts the data's names and values only, so that is on its side.
MAX_PAYLOAD_BYTES: Final = 4096
VERSION: Final = 1
NEW_MAIL: Final = "New mail"
NO_SUBJECT: Final = "(no subject)"
DEFAULT_SOUND: Final = "default"
_TITLE_CHARACTERS: Final = 200
_PREVIEW_CHARACTERS: Final = 200
# What must not stand alone at the end of a text that was cut: space, and half of an emoji.
_LOOSE_ENDS: Final = " \u200d\ufe0f"


@dataclass(frozen=True, slots=True)
class Content:
    """What an announcement may say; empty strings where nothing is known or allowed."""

    sender: str = field(default="", repr=False)
    subject: str = field(default="", repr=False)
    preview: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class News:
    """One mail as one device is told of it.

    `item` is what stands for the mail on this device, `content` None where only «New mail» may be
    said, `badge` None where the unread count is unknown. `sound` is a file of the app's, empty for
    silence. What has the same `thread` is shown together. With an `envelope` nobody but the device
    can read the content.
    """

    item: str
    content: Content | None = field(repr=False)
    badge: int | None
    sound: str = DEFAULT_SOUND
    thread: str = ""
    envelope: Envelope | None = None


def content_of(item: Item) -> Content:
    """Sender, subject and the beginning of an item, as people read them."""
    sender = _clean(item.sender_name) or _clean(item.sender_address)
    return Content(
        sender=sender[:_TITLE_CHARACTERS],
        subject=_clean(item.subject) or NO_SUBJECT,
        preview=_clean(item.preview)[:_PREVIEW_CHARACTERS].rstrip(_LOOSE_ENDS),
    )


def announcement(service: Service, news: News) -> dict[str, Any]:
    """The payload of an announcement, at most 4096 bytes: preview and subject are cut to fit.

    Raises:
        ValueError, joserfc.errors.JoseError: the envelope's content key is none.
    """
    form = _FORMS[service]
    if news.content is None:
        return form(news, Content(), "")
    if news.envelope is not None:
        return form(news, Content(), _sealed(news, news.content, news.envelope, form))
    content = _fitted(
        news.content, lambda shorter: _size(form(news, shorter, "")) - MAX_PAYLOAD_BYTES
    )
    return form(news, content, "")


def badge_correction(service: Service, badge: int) -> dict[str, Any]:
    """The payload that only sets the badge."""
    if service == "fcm":
        return {"data": {"v": str(VERSION), "kind": "badge", "badge": str(badge)}}
    return {"aps": {"badge": badge}, "ens": {"v": VERSION, "kind": "badge"}}


def _sealed(news: News, content: Content, envelope: Envelope, form: _Form) -> str:
    frame = _size(form(news, Content(), "-")) - 1
    room = envelope.room(MAX_PAYLOAD_BYTES - frame)

    def claims(content: Content) -> bytes:
        said = {"sender": content.sender, "subject": content.subject, "preview": content.preview}
        said["thread"] = news.thread
        return envelope.claims(news.item, {name: text for name, text in said.items() if text})

    return envelope.seal(claims(_fitted(content, lambda shorter: len(claims(shorter)) - room)))


def _fitted(content: Content, excess: Callable[[Content], int]) -> Content:
    """Content cut until `excess` (bytes, in UTF-8) is no longer positive, and marked with «…»."""
    for name in ("preview", "subject"):
        while (too_many := excess(content)) > 0 and (text := getattr(content, name)):
            content = replace(content, **{name: _shortened(text, too_many)})
    return content


def _size(payload: dict[str, Any]) -> int:
    """Bytes of a payload as it is sent."""
    return len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())


def _shortened(text: str, excess: int) -> str:
    # A character is four bytes at most, an escaped one six: this never cuts too much, and since it
    # cuts one character at least, it ends.
    kept = text.removesuffix("…")
    kept = kept[: max(0, len(kept) - max(1, excess // 6) - 1)].rstrip(_LOOSE_ENDS)
    return f"{kept}…" if kept else ""


def _apns(news: News, content: Content, enc: str) -> dict[str, Any]:
    alert = {"title": content.sender or NEW_MAIL}
    if content.preview:
        alert |= {"subtitle": content.subject, "body": content.preview}
    elif content.subject:
        alert["body"] = content.subject
    aps: dict[str, Any] = {"alert": alert}
    if news.sound:
        aps["sound"] = news.sound
    if news.badge is not None:
        aps["badge"] = news.badge
    ens = {"v": VERSION, "kind": "announcement", "item": news.item}
    if enc:
        # Only with this does iOS let the app's service extension see the push before it is shown.
        aps["mutable-content"] = 1
        ens["enc"] = enc
    elif news.thread:
        aps["thread-id"] = news.thread
    return {"aps": aps, "ens": ens}


def _fcm(news: News, content: Content, enc: str) -> dict[str, Any]:
    """Data only, all of it text: the app makes its notification itself."""
    data = {"v": str(VERSION), "kind": "announcement", "item": news.item}
    said = {"enc": enc} if enc else {"title": content.sender or NEW_MAIL, "body": content.subject}
    data |= said | {"preview": content.preview, "sound": news.sound}
    data["thread"] = "" if enc else news.thread
    if news.badge is not None:
        data["badge"] = str(news.badge)
    return {"data": {name: text for name, text in data.items() if text}}


_Form = Callable[[News, Content, str], dict[str, Any]]
_FORMS: Final[dict[Service, _Form]] = {
    "apns": _apns,
    "fcm": _fcm,
}


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
