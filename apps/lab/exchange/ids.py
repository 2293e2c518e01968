"""Identifiers as Exchange makes them: long, opaque, base64, case-sensitive.

An item's or folder's EWS id wraps its store entry id; ConvertId shows the same in other clothes:
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-identifiers-in-exchange
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID, uuid4

from .errors import EwsError

_MARK = b"\x00\x03\x24"
_ENTRY_HEAD = b"\x00\x46\x00\x00\x00\x00"


def folder_id(mailbox: UUID, path: str) -> str:
    """The id of a mailbox's folder; the same each time it is asked for."""
    return _ews_id(mailbox, b"\x01" + hashlib.sha256(path.encode()).digest()[:22])


def item_id(mailbox: UUID, folder: str) -> str:
    """A new id for an item in the folder with this id."""
    return _ews_id(mailbox, b"\x02" + hashlib.sha256(folder.encode()).digest()[:8] + uuid4().bytes)


def conversation_id(mailbox: UUID, topic: str) -> str:
    """The id of the conversation about a topic in a mailbox."""
    return _ews_id(mailbox, b"\x03" + hashlib.sha256(topic.encode()).digest()[:16])


def _ews_id(mailbox: UUID, tail: bytes) -> str:
    entry = _ENTRY_HEAD + mailbox.bytes + tail
    return b64encode(_MARK + str(mailbox).encode() + struct.pack("<H", len(entry)) + entry).decode()


def change_key(counter: int) -> str:
    """The change key of the `counter`th state of something."""
    return b64encode(b"\x16\x00\x00\x00" + struct.pack(">Q", counter)).decode()


def watermark(store: UUID, counter: int) -> str:
    """An event's place in the order of all events of a mailbox."""
    return b64encode(
        b"\x01\x00\x00\x00" + store.bytes + struct.pack("<Q", counter) + b"\x01"
    ).decode()


def subscription_id(host: str, mailbox: UUID) -> str:
    """A new subscription's id, in which real servers pack their name and the mailbox."""
    name = host.encode()
    packed = struct.pack("<H", len(name)) + name + struct.pack("<I", 16) + uuid4().bytes
    return b64encode(packed + mailbox.bytes).decode()


_LENGTH = struct.Struct("<H")
_ENTRY_AT = len(_MARK) + 36 + _LENGTH.size


def convert(value: str, source: str, destination: str, mailbox: UUID) -> str:
    """Writes an id in another format. Raises `EwsError` ErrorInvalidIdMalformed."""
    try:
        entry = _entry(value, source)
    except (ValueError, IndexError):
        raise EwsError("ErrorInvalidIdMalformed") from None
    if not entry.startswith(_ENTRY_HEAD):
        raise EwsError("ErrorInvalidIdMalformed")
    owner = UUID(bytes=entry[len(_ENTRY_HEAD) :][:16])
    if owner != mailbox:
        raise EwsError("ErrorItemNotFound")
    if destination in ("EwsId", "EwsLegacyId"):
        return _ews_id(owner, entry[len(_ENTRY_HEAD) + 16 :])
    if destination == "HexEntryId":
        return entry.hex().upper()
    if destination == "OwaId":
        return urlsafe_b64encode(entry).decode()
    return b64encode(entry).decode()


def _entry(value: str, source: str) -> bytes:
    if source in ("EwsId", "EwsLegacyId"):
        data = b64decode(value, validate=True)
        if not data.startswith(_MARK):
            raise ValueError("not ours")
        return data[_ENTRY_AT:]
    if source == "HexEntryId":
        return bytes.fromhex(value)
    if source == "OwaId":
        return urlsafe_b64decode(value)
    return b64decode(value, validate=True)
