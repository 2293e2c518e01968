"""The statements of the hot path, compiled once per process rather than at every call.

Building a query with the ORM costs more CPU than the databases take to answer it. The reads are
still written and compiled by the ORM, since row locks and limits differ between the databases;
markers stand in for their values. The writes are plain SQL-92.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from django.db import connections
from django.db.models import Exists, OuterRef, QuerySet

from apps.eventlog.models import LogEntry
from apps.eventlog.rows import chunks

_KEPT = 200
_TABLE = LogEntry._meta.db_table
_NEW = ("kind", "partition", "payload", "appended_at", "due_at", "holder", "attempts")
_READ = ("pk", "partition", "payload", "appended_at", "attempts")

# No kind, worker, time or partition is ever one of these.
_KIND, _WORKER, _NOW = "\0kind", "\0worker", -1.5e300


def _slot(number: int) -> str:
    return f"\0{number}"


class Statements:
    """Runs them on one database; every method may raise any of Django's database errors."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._compiled: dict[Any, tuple[str, Sequence[Any]]] = {}

    def insert(self, *values: Any) -> None:
        """Store one entry, the columns in the order of `_NEW`."""
        places = ", ".join(["%s"] * len(_NEW))
        columns = ", ".join(map(self._name, _NEW))
        self._write("INSERT INTO {table} ({columns}) VALUES ({places})", values, columns, places)

    def lease(self, ids: Collection[int], holder: str, due_at: float) -> None:
        """Give entries a holder until a time, and count the attempt."""
        for chunk in chunks(ids):
            self._write(
                "UPDATE {table} SET {columns}, attempts = attempts + 1 WHERE id IN ({places})",
                (holder, due_at, *chunk),
                "holder = %s, due_at = %s",
                ", ".join(["%s"] * len(chunk)),
            )

    def delete(self, ids: Collection[int]) -> None:
        """Delete entries."""
        for chunk in chunks(ids):
            places = ", ".join(["%s"] * len(chunk))
            self._write("DELETE FROM {table} WHERE id IN ({places})", tuple(chunk), "", places)

    def heads(self, kind: str, worker: str, now: float, limit: int) -> list[str]:
        """Partitions of which something is due, those first that are due longest.

        What another worker holds of a partition rules it out.
        """
        size = _round_up(limit)
        sql, params = self._read(("heads", size), lambda: self._heads()[:size])
        values = {_KIND: kind, _WORKER: worker, _NOW: now}
        return [row[0] for row in self._rows(sql, params, values)[:limit]]

    def waiting(
        self, kind: str, worker: str, now: float, partitions: Sequence[str], limit: int
    ) -> list[Sequence[Any]]:
        """Lock and read what is due in these partitions, oldest first, the columns of `_READ`.

        Partitions of which another worker holds anything are left out.
        """
        size = _round_up(len(partitions))
        sql, params = self._read(
            ("waiting", size, limit), lambda: self._locked(self._waiting(size))[:limit]
        )
        values: dict[Any, Any] = {_KIND: kind, _WORKER: worker, _NOW: now}
        values |= {_slot(i): partitions[min(i, len(partitions) - 1)] for i in range(size)}
        return self._rows(sql, params, values)

    # --- as the ORM says it ----------------------------------------------------------------

    @property
    def _of_kind(self) -> QuerySet[LogEntry]:
        return LogEntry.objects.using(self._using).filter(kind=_KIND)

    def _held_by_others(self) -> QuerySet[LogEntry]:
        return self._of_kind.filter(due_at__gt=_NOW).exclude(holder__in=("", _WORKER))

    def _heads(self) -> QuerySet[LogEntry, Any]:
        due = self._of_kind.filter(due_at__lte=_NOW)
        # One row a partition, however long its backlog: the first that is due.
        earlier = due.filter(partition=OuterRef("partition"), pk__lt=OuterRef("pk"))
        held = self._held_by_others().filter(partition=OuterRef("partition"))
        return (
            due.exclude(Exists(earlier))
            .exclude(Exists(held))
            .order_by("due_at", "pk")
            .values_list("partition")
        )

    def _waiting(self, size: int) -> QuerySet[LogEntry, Any]:
        among = {"partition__in": [_slot(number) for number in range(size)]}
        # Asked once for all, not per row: a partition may have a long backlog.
        held = self._held_by_others().filter(**among).values("partition")
        return (
            self._of_kind.filter(due_at__lte=_NOW, **among)
            .exclude(partition__in=held)
            .order_by("pk")
            .values_list(*_READ)
        )

    def _locked(self, rows: QuerySet[LogEntry, Any]) -> QuerySet[LogEntry, Any]:
        features = connections[self._using].features
        if not features.has_select_for_update:
            return rows
        # What is locked although we have the turn is being acknowledged at this moment.
        skip_locked = features.has_select_for_update_skip_locked
        return rows.select_for_update(skip_locked=skip_locked)

    # --- and how it is run -----------------------------------------------------------------

    def _name(self, column: str) -> str:
        return connections[self._using].ops.quote_name(column)

    def _write(self, template: str, values: Sequence[Any], columns: str, places: str) -> None:
        sql = template.format(table=self._name(_TABLE), columns=columns, places=places)
        with connections[self._using].cursor() as cursor:
            cursor.execute(sql, values)

    def _read(
        self, key: Any, build: Callable[[], QuerySet[LogEntry, Any]]
    ) -> tuple[str, Sequence[Any]]:
        found = self._compiled.get(key)
        if found is None:
            if len(self._compiled) >= _KEPT:
                self._compiled.clear()
            found = build().query.get_compiler(self._using).as_sql()
            self._compiled[key] = found
        return found

    def _rows(self, sql: str, params: Sequence[Any], values: dict[Any, Any]) -> list[Sequence[Any]]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(sql, [values.get(param, param) for param in params])
            return list(cursor.fetchall())


def _round_up(number: int) -> int:
    """The next power of two, so that few different statements are compiled."""
    return 1 << max(0, number - 1).bit_length()
