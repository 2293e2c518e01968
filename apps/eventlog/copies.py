"""A copy of a set of partitions in the process, so that asking costs no query.

Of those that are unwanted, and of those that have dead letters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from apps.eventlog.interface import LogUnavailable

_log = logging.getLogger(__name__)
UNWANTED_EVERY_S = 1.0
# A heartbeat comes every half hour or so.
DEAD_EVERY_S = 30.0


class PartitionsCopy:
    """Knows which partitions belong to a set, at most about `every_s` late.

    An Exchange restart leaves thousands of marks: `version` is asked every so often, and may
    be anything that changes with the set; `read` only when it has changed.
    """

    def __init__(
        self, version: Callable[[], Any], read: Callable[[], frozenset[str]], every_s: float
    ) -> None:
        self._ask_version, self._read, self._every_s = version, read, every_s
        self._partitions: frozenset[str] = frozenset()
        self._version: Any = None
        self._refresh_at = 0.0  # by time.monotonic
        self._refreshing = threading.Lock()

    def __contains__(self, partition: str) -> bool:
        """Looks at the log at most once every `every_s` seconds."""
        if time.monotonic() >= self._refresh_at and self._refreshing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._refresh_at = time.monotonic() + self._every_s
                self._refreshing.release()
        return partition in self._partitions

    def expire(self) -> None:
        """Look at the log the next time."""
        self._refresh_at = 0.0

    def _refresh(self) -> None:
        try:
            version = self._ask_version()
            if version != self._version:
                self._partitions = self._read()
                self._version = version
        except LogUnavailable as error:
            _log.warning("a copy of the log's partitions is that of before: %s", error)
