"""The event log in tables, for SQLite, PostgreSQL and SQL Server, shared by many processes.

A claim is one transaction: it takes the turn (a row lock; on SQLite the transaction is IMMEDIATE
and that is enough), finds what is due, and writes the lease into `due_at` and `holder`. Everything
that changes leases takes the turn, so no worker decides on leases that another is changing; it is
held for a few milliseconds and moves hundreds of entries.

Every query is the ORM's or plain SQL-92, within what mssql-django takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from itertools import islice

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction
from django.db.models import Count, Max, Min, QuerySet

from apps.eventlog.copies import DEAD_EVERY_S, UNWANTED_EVERY_S, PartitionsCopy
from apps.eventlog.errors import unavailable_on_error
from apps.eventlog.interface import Entry, NewEntry
from apps.eventlog.kept import DEAD_LETTERS_KEPT_S, SIGNS_KEPT_S, UNWANTED_KEPT_S
from apps.eventlog.models import (
    DeadLetter,
    LogEntry,
    SeenMark,
    Sign,
    Turn,
    UnwantedPartition,
)
from apps.eventlog.rows import chunks, delete_older, put, put_signs
from apps.eventlog.signs import SIGNS_EVERY_S, SignBuffer, SignOfLife
from apps.eventlog.statements import Statements

# An entry from a server whose clock runs ahead by less than this is due at once on the others.
_CLOCK_SKEW_S = 60.0
# A claim names them twice, and SQL Server takes 2,100 parameters in a statement.
_PARTITIONS_IN_SQL = 1000


class TableLog:
    """The EventLog of `interface.py` in the tables of one database.

    Calls are durable when they return only outside of a transaction of the caller's. How long one
    may take when the database doesn't answer is up to its connection options: SQLite's `timeout`,
    PostgreSQL's `connect_timeout`, `tcp_user_timeout` and `statement_timeout`.
    """

    def __init__(
        self,
        using: str = DEFAULT_DB_ALIAS,
        clock: Callable[[], float] = time.time,
        life_clock: Callable[[], float] = time.time,
    ) -> None:
        self._using = using
        self._clock = clock
        self._life_clock = life_clock
        self._unwanted = PartitionsCopy(
            self._unwanted_version, self._unwanted_partitions, UNWANTED_EVERY_S
        )
        self._dead = PartitionsCopy(self._dead_version, self._dead_partitions, DEAD_EVERY_S)
        self._signs = SignBuffer(self._write_signs, SIGNS_EVERY_S)
        self._statements = Statements(using)

    # --- the webhook's side ----------------------------------------------------------------

    def append(self, entry: NewEntry) -> bool:
        """See `EventLog.append`. One INSERT."""
        now = self._clock()
        due_at = now - _CLOCK_SKEW_S
        with unavailable_on_error(self._using):
            self._statements.insert(entry.kind, entry.partition, entry.payload, now, due_at, "", 0)
        return entry.partition not in self._unwanted

    def sign_of_life(self, partition: str, mark: str = "") -> bool:
        """See `EventLog.sign_of_life`. No query."""
        self._signs.note(partition, self._life_clock(), mark)
        return partition not in self._unwanted

    def flush(self) -> None:
        """See `EventLog.flush`."""
        self._signs.flush()

    def close(self) -> None:
        """See `EventLog.close`."""
        self._signs.close()

    def _write_signs(self, signs: dict[str, SignOfLife]) -> None:
        try:
            with unavailable_on_error(self._using):
                put_signs(self._using, signs)
        finally:
            # The thread is idle until the next batch; its connection would only be in the way.
            if not connections[self._using].in_atomic_block:
                connections[self._using].close()

    # --- the worker's side -----------------------------------------------------------------

    def claim(
        self,
        kind: str,
        worker: str,
        limit: int,
        lease_s: float,
        skip_partitions: Collection[str] = (),
    ) -> list[Entry]:
        """See `EventLog.claim`. One query and no write when nothing is to be had."""
        with unavailable_on_error(self._using):
            partitions = self._due_partitions(kind, worker, limit, skip_partitions)
            if not partitions:
                return []
            with transaction.atomic(using=self._using):
                self._take_turn()
                entries = self._lock(kind, worker, limit, partitions)
                self._statements.lease(
                    [entry.id for entry in entries], worker, self._clock() + lease_s
                )
        return entries

    def renew(self, ids: Collection[int], worker: str, lease_s: float) -> int:
        """See `EventLog.renew`."""
        return self._change_lease(ids, worker, worker, lease_s)

    def delay(self, ids: Collection[int], worker: str, seconds: float) -> None:
        """See `EventLog.delay`."""
        self._change_lease(ids, worker, "", seconds)

    def is_held(self, kind: str, partition: str) -> bool:
        """See `EventLog.is_held`. One query."""
        with unavailable_on_error(self._using):
            leased = self._entries.filter(
                kind=kind, partition=partition, due_at__gt=self._clock()
            ).exclude(holder="")
            return leased.exists()

    def acknowledge(self, ids: Collection[int]) -> None:
        """See `EventLog.acknowledge`. One DELETE for every 500 ids."""
        with unavailable_on_error(self._using):
            self._statements.delete(ids)

    def bury(self, entry_id: int, reason: str) -> None:
        """See `EventLog.bury`."""
        with unavailable_on_error(self._using), transaction.atomic(using=self._using):
            entries = self._entries.filter(pk=entry_id)
            kept = ("kind", "partition", "attempts", "appended_at")
            for values in entries.select_for_update().values(*kept):
                self._dead_letters.create(reason=reason, buried_at=self._life_clock(), **values)
            entries.delete()
        self._dead.expire()

    def depth(self, kind: str) -> int:
        """See `EventLog.depth`."""
        with unavailable_on_error(self._using):
            return self._entries.filter(kind=kind).count()

    @property
    def _entries(self) -> QuerySet[LogEntry]:
        return LogEntry.objects.using(self._using)

    def _due_partitions(
        self, kind: str, worker: str, limit: int, skip: Collection[str]
    ) -> list[str]:
        # A partition has one head, so there are enough even if all to be skipped come first.
        heads = self._statements.heads(kind, worker, self._clock(), limit + len(skip))
        wanted = (partition for partition in heads if partition not in skip)
        return list(islice(wanted, min(limit, _PARTITIONS_IN_SQL)))

    def _lock(self, kind: str, worker: str, limit: int, partitions: list[str]) -> list[Entry]:
        """Lock what is due in these partitions, the oldest first."""
        rows = self._statements.waiting(kind, worker, self._clock(), partitions, limit)
        return [
            Entry(pk, kind, partition, bytes(payload), appended_at, attempts + 1)
            for pk, partition, payload, appended_at, attempts in rows
        ]

    def _change_lease(self, ids: Collection[int], worker: str, holder: str, seconds: float) -> int:
        changed = 0
        with unavailable_on_error(self._using), transaction.atomic(using=self._using):
            self._take_turn()
            due_at = self._clock() + seconds
            for chunk in chunks(ids):
                mine = self._entries.filter(pk__in=chunk, holder=worker)
                changed += mine.update(holder=holder, due_at=due_at)
        return changed

    def _take_turn(self) -> None:
        """Wait until no other process changes leases; it lasts until the transaction ends."""
        if not connections[self._using].features.has_select_for_update:
            return
        turn = Turn.objects.using(self._using).select_for_update().filter(pk=1)
        if not turn:
            try:
                with transaction.atomic(using=self._using):
                    Turn.objects.using(self._using).create(pk=1)
            except IntegrityError:  # another process made it; wait for its turn to end
                list(turn.all())

    # --- partitions and marks --------------------------------------------------------------

    def set_unwanted(self, partition: str) -> None:
        """See `EventLog.set_unwanted`."""
        with unavailable_on_error(self._using):
            put(UnwantedPartition, self._using, [partition], "marked_at", self._life_clock())
        self._unwanted.expire()

    def _unwanted_version(self) -> tuple[int, float | None]:
        with unavailable_on_error(self._using):
            found = self._unwanted_marks.aggregate(count=Count("pk"), newest=Max("marked_at"))
        return found["count"], found["newest"]

    def _unwanted_partitions(self) -> frozenset[str]:
        with unavailable_on_error(self._using):
            return frozenset(self._unwanted_marks.values_list("pk", flat=True))

    @property
    def _unwanted_marks(self) -> QuerySet[UnwantedPartition]:
        return UnwantedPartition.objects.using(self._using)

    def mark_seen(self, keys: Iterable[str], ttl_s: float) -> None:
        """See `EventLog.mark_seen`."""
        with unavailable_on_error(self._using):
            put(SeenMark, self._using, list(keys), "expires_at", self._clock() + ttl_s)

    def seen(self, keys: Iterable[str]) -> set[str]:
        """See `EventLog.seen`."""
        found: set[str] = set()
        with unavailable_on_error(self._using):
            marks = SeenMark.objects.using(self._using).filter(expires_at__gt=self._clock())
            for chunk in chunks(keys):
                found.update(marks.filter(pk__in=chunk).values_list("pk", flat=True))
        return found

    def last_signs(self, partitions: Collection[str]) -> dict[str, datetime]:
        """See `EventLog.last_signs`."""
        found: dict[str, datetime] = {}
        with unavailable_on_error(self._using):
            for chunk in chunks(partitions):
                signs = self._kept_signs.filter(pk__in=chunk)
                for partition, at in signs.values_list("pk", "seen_at"):
                    found[partition] = datetime.fromtimestamp(at, UTC)
        return found

    def last_marks(self, partitions: Collection[str]) -> dict[str, str]:
        """See `EventLog.last_marks`."""
        found: dict[str, str] = {}
        with unavailable_on_error(self._using):
            for chunk in chunks(partitions):
                marked = self._kept_signs.filter(pk__in=chunk).exclude(mark="")
                found.update(marked.values_list("pk", "mark"))
        return found

    def silent(self, before: datetime, limit: int, after: str = "") -> list[str]:
        """See `EventLog.silent`. One query, two when there is a page before."""
        with unavailable_on_error(self._using):
            signs = self._kept_signs.filter(seen_at__lt=before.timestamp())
            last = signs.filter(pk=after).values_list("seen_at", flat=True) if after else ()
            for seen_at in last:
                signs = signs.filter(seen_at__gte=seen_at).exclude(
                    seen_at=seen_at, partition__lte=after
                )
            found = signs.order_by("seen_at", "partition").values_list("pk", flat=True)
            return list(found[:limit])

    def forget(self, partitions: Collection[str]) -> None:
        """See `EventLog.forget`."""
        self._signs.drop(partitions)
        with unavailable_on_error(self._using):
            for chunk in chunks(partitions):
                self._kept_signs.filter(pk__in=chunk).delete()

    @property
    def _kept_signs(self) -> QuerySet[Sign]:
        return Sign.objects.using(self._using)

    # --- dead letters and housekeeping -----------------------------------------------------

    def dead_since(self, partitions: Collection[str]) -> dict[str, datetime]:
        """See `EventLog.dead_since`."""
        found: dict[str, datetime] = {}
        with unavailable_on_error(self._using):
            for chunk in chunks(partitions):
                letters = self._dead_letters.filter(partition__in=chunk).values("partition")
                for row in letters.annotate(since=Min("appended_at")):
                    found[row["partition"]] = datetime.fromtimestamp(row["since"], UTC)
        return found

    def revive(self, partitions: Collection[str]) -> None:
        """See `EventLog.revive`."""
        with unavailable_on_error(self._using):
            for chunk in chunks(partitions):
                self._dead_letters.filter(partition__in=chunk).delete()
        self._dead.expire()

    def has_dead_letters(self, partition: str) -> bool:
        """See `EventLog.has_dead_letters`. No query."""
        return partition in self._dead

    def _dead_version(self) -> tuple[int, int | None]:
        with unavailable_on_error(self._using):
            found = self._dead_letters.aggregate(count=Count("pk"), newest=Max("pk"))
        return found["count"], found["newest"]

    def _dead_partitions(self) -> frozenset[str]:
        with unavailable_on_error(self._using):
            return frozenset(self._dead_letters.values_list("partition", flat=True).distinct())

    @property
    def _dead_letters(self) -> QuerySet[DeadLetter]:
        return DeadLetter.objects.using(self._using)

    def purge(self) -> None:
        """See `EventLog.purge`."""
        now = self._life_clock()
        with unavailable_on_error(self._using):
            delete_older(SeenMark, self._using, "expires_at", self._clock())
            delete_older(DeadLetter, self._using, "buried_at", now - DEAD_LETTERS_KEPT_S)
            delete_older(UnwantedPartition, self._using, "marked_at", now - UNWANTED_KEPT_S)
            delete_older(Sign, self._using, "seen_at", now - SIGNS_KEPT_S)
            connection = connections[self._using]
            if connection.vendor == "sqlite" and not connection.in_atomic_block:
                # Until it is overwritten, SQLite's journal keeps what was acknowledged long ago.
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
