"""What the event log can do, whatever keeps it: a table or Redis Streams.

The webhook appends, a worker claims, and acknowledges when the push was accepted. An entry is
handed out at least once. Entries of one partition go to one worker at a time, oldest first among
those that are due; an entry that was delayed holds up none of those behind it.

Two clocks: leases, delays, seen marks and `appended_at` go by the real one; signs of life and the
ages at which things are purged by the subscriptions' (`apps/clock.py`, faster in the lab). Times
are seconds since the epoch or aware datetimes, spans are seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class LogUnavailable(Exception):
    """The log can't be reached, or can't promise to have kept it. The text names no content."""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What is appended: `kind` up to 20 characters, `partition` up to 64, any payload."""

    kind: str
    partition: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is claimed. `attempts` counts the claims of this entry, this one included."""

    id: int
    kind: str
    partition: str
    payload: bytes = field(repr=False)
    appended_at: float
    attempts: int


class EventLog(Protocol):
    """A durable log with leases. Every method raises LogUnavailable unless it says otherwise."""

    def append(self, entry: NewEntry) -> bool:
        """Keep an entry; it is durable when this returns. False: the partition is unwanted."""

    def sign_of_life(self, partition: str, mark: str = "") -> bool:
        """Note that the partition is alive, written seconds later; never raises LogUnavailable.

        `mark` (up to 128 characters, opaque) replaces the one kept with the last sign; empty
        leaves that one. False: the partition is unwanted.
        """

    def claim(
        self,
        kind: str,
        worker: str,
        limit: int,
        lease_s: float,
        skip_partitions: Collection[str] = (),
    ) -> list[Entry]:
        """Lease the oldest entries that are due to this worker, in order within each partition.

        Partitions of which another worker holds an entry under a live lease are left out.
        `worker` is unique to a process.
        """

    def renew(self, ids: Collection[int], worker: str, lease_s: float) -> int:
        """Lease entries anew that this worker still holds; returns how many it does."""

    def is_held(self, kind: str, partition: str) -> bool:
        """Whether a worker holds an entry of the partition; one that has died does for a while."""

    def acknowledge(self, ids: Collection[int]) -> None:
        """Delete entries: what they asked for is done. Unknown ids are ignored."""

    def delay(self, ids: Collection[int], worker: str, seconds: float) -> None:
        """Hand entries back that this worker holds, due again after so many seconds."""

    def bury(self, entry_id: int, reason: str) -> None:
        """Delete an entry and remember kind, partition and reason (a short code), no payload."""

    def set_unwanted(self, partition: str) -> None:
        """Let the next append or sign of life of the partition answer False, on every server."""

    def mark_seen(self, keys: Iterable[str], ttl_s: float) -> None:
        """Remember keys (up to 128 characters, compared without case at worst) for a while."""

    def seen(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are remembered."""

    def dead_since(self, partitions: Collection[str]) -> dict[str, datetime]:
        """When the oldest of each partition's dead letters was appended, where there is one."""

    def has_dead_letters(self, partition: str) -> bool:
        """Whether the partition has any, as known half a minute ago; never raises."""

    def revive(self, partitions: Collection[str]) -> None:
        """Delete the partitions' dead letters: a catch-up has replayed them."""

    def purge(self) -> None:
        """Delete expired marks, old dead letters, old unwanted marks and old signs of life."""

    def depth(self, kind: str) -> int:
        """How many entries of the kind there are, held and delayed ones included."""

    def last_signs(self, partitions: Collection[str]) -> dict[str, datetime]:
        """When partitions last gave a sign of life (to about ten seconds), where known."""

    def last_marks(self, partitions: Collection[str]) -> dict[str, str]:
        """The newest mark of each partition, where one is known."""

    def silent(self, before: datetime, limit: int, after: str = "") -> list[str]:
        """Partitions whose last sign is older, oldest first; costs as much as it finds.

        `after` is the last partition of the page before. When that one has been forgotten or has
        given a sign since, the list begins anew.
        """

    def forget(self, partitions: Collection[str]) -> None:
        """Drop the partitions' signs and marks: they ended. A late sign would bring one back."""

    def flush(self) -> None:
        """Write the signs of life of this process now, rather than within seconds."""

    def close(self) -> None:
        """Write the signs of life and end the thread that does it. Done by itself at exit."""
