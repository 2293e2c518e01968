"""A copy of the unwanted partitions in the process, so that asking costs no query."""

from __future__ import annotations

import logging
import threading
import time

from django.db.models import Count, Max

from apps.eventlog.errors import unavailable_on_error
from apps.eventlog.interface import LogUnavailable
from apps.eventlog.models import UnwantedPartition

_log = logging.getLogger(__name__)
_REFRESH_S = 1.0


class UnwantedCopy:
    """Knows which partitions are unwanted, at most about a second late."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._partitions: frozenset[str] = frozenset()
        self._version: tuple[int, float | None] | None = None
        self._refresh_at = 0.0  # by time.monotonic
        self._refreshing = threading.Lock()

    def wants(self, partition: str) -> bool:
        """Whether the partition is wanted; looks at the database at most once a second."""
        if time.monotonic() >= self._refresh_at and self._refreshing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._refresh_at = time.monotonic() + _REFRESH_S
                self._refreshing.release()
        return partition not in self._partitions

    def expire(self) -> None:
        """Look at the database the next time."""
        self._refresh_at = 0.0

    def _refresh(self) -> None:
        rows = UnwantedPartition.objects.using(self._using)
        try:
            with unavailable_on_error(self._using):
                # An Exchange restart leaves thousands of marks: they are read when they changed.
                found = rows.aggregate(count=Count("pk"), newest=Max("marked_at"))
                version = (found["count"], found["newest"])
                if version != self._version:
                    self._partitions = frozenset(rows.values_list("pk", flat=True))
                    self._version = version
        except LogUnavailable as error:
            _log.warning("the unwanted partitions are those of before: %s", error)
