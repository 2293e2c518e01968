"""What happened to a device, in short: for support, who ask why one phone is silent.

Processes add loose entries; once a minute a device's loose entries are packed into its one row,
which keeps the newest hundred.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import transaction

from apps import clock
from apps.history.buffer import buffer
from apps.vault.redact import REFUSED, Fact, PlainFact, plain_fact

log = logging.getLogger(__name__)

ENTRIES_KEPT: Final = 100
# A story that nothing was added to for so long is deleted.
STORIES_KEPT_S: Final = 90 * 86400
_PACKED_AT_ONCE: Final = 2_000
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened to a device. `facts` are codes, numbers and ids."""

    at: datetime
    kind: str
    facts: dict[str, PlainFact]


def record(device_id: uuid.UUID, kind: str, **facts: Fact) -> None:
    """Add to a device's story; returns at once and never fails.

    Facts are short codes, numbers and ids. Text that is none (over 40 characters, or with anything
    but letters, digits and `_.:+-`, so that no address and no subject passes) is kept as `?`.
    """
    if not _NAME.fullmatch(kind):
        log.error("history: a kind that is no name")
        kind = REFUSED
    kept = {name: _checked(kind, name, value) for name, value in facts.items()}
    entry = [round(clock.time(), 3), kind, kept]
    buffer.add_entry(device_id, json.dumps(entry, separators=(",", ":")))


def story(device_id: uuid.UUID) -> list[Entry]:
    """What is known of a device, oldest first; entries of other processes come seconds later."""
    from apps.history.models import LooseEntry, Story

    buffer.flush()
    # The loose ones first: what is packed between the two reads is then seen twice, not missed.
    loose = list(LooseEntry.objects.filter(device_id=device_id).values_list("text", flat=True))
    row = Story.objects.filter(device_id=device_id).first()
    raw = _unpack(bytes(row.packed)) if row else []
    raw += [one for one in map(json.loads, loose) if one not in raw]
    return [Entry(datetime.fromtimestamp(at, UTC), kind, facts) for at, kind, facts in _newest(raw)]


def pack() -> int:
    """Pack loose entries into their devices' rows; returns how many. Housekeeping calls it.

    Two that pack at once do nothing twice: who finds an entry gone leaves the rest to the other.
    """
    from apps.history.models import LooseEntry

    loose = list(
        LooseEntry.objects.order_by("pk").values_list("pk", "device_id", "text")[:_PACKED_AT_ONCE]
    )
    by_device: dict[uuid.UUID, list[tuple[int, str]]] = {}
    for pk, device_id, text in loose:
        by_device.setdefault(device_id, []).append((pk, text))
    return sum(_pack(device_id, by_device[device_id]) for device_id in sorted(by_device))


def purge() -> None:
    """Delete the stories of devices to which nothing has happened for a long time."""
    from apps.history.models import Story

    Story.objects.filter(newest_at__lt=clock.time() - STORIES_KEPT_S).delete()


def forget(device_ids: Collection[uuid.UUID]) -> None:
    """Delete the stories of these devices."""
    from apps.history.models import LooseEntry, Story

    buffer.flush()
    ids = list(device_ids)
    for first in range(0, len(ids), 500):
        LooseEntry.objects.filter(device_id__in=ids[first : first + 500]).delete()
        Story.objects.filter(device_id__in=ids[first : first + 500]).delete()


def note_move(device_id: uuid.UUID, to: str, reason: str, **_signal: Any) -> None:
    """Receives `devices.registry.device_moved`."""
    record(device_id, "moved", to=str(to), reason=reason)


def _pack(device_id: uuid.UUID, loose: list[tuple[int, str]]) -> int:
    from apps.history.models import LooseEntry, Story

    keys = [pk for pk, _ in loose]
    fresh = [json.loads(text) for _, text in loose]
    with transaction.atomic():
        deleted = 0
        for start in range(0, len(keys), 500):
            deleted += LooseEntry.objects.filter(pk__in=keys[start : start + 500]).delete()[0]
        if deleted != len(keys):
            transaction.set_rollback(True)
            return 0
        row = Story.objects.select_for_update().filter(device_id=device_id).first()
        entries = _newest((_unpack(bytes(row.packed)) if row else []) + fresh)
        values = {"packed": _packed(entries), "newest_at": float(entries[-1][0])}
        if row is None:
            Story.objects.create(device_id=device_id, **values)
        else:
            Story.objects.filter(device_id=device_id).update(**values)
    return len(keys)


def _newest(entries: list[list[Any]]) -> list[list[Any]]:
    return sorted(entries, key=lambda entry: float(entry[0]))[-ENTRIES_KEPT:]


def _packed(entries: list[list[Any]]) -> bytes:
    return zlib.compress(json.dumps(entries, separators=(",", ":")).encode(), 6)


def _unpack(packed: bytes) -> list[list[Any]]:
    found: list[list[Any]] = json.loads(zlib.decompress(packed))
    return found


def _checked(kind: str, name: str, value: Fact) -> PlainFact:
    checked = plain_fact(value)
    if checked == REFUSED:
        log.error("history: %s of an entry %s is no code", name, kind)
    return checked
