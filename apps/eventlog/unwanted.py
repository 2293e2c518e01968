"""A copy of the unwanted partitions in the process, so that asking costs no query."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from apps.eventlog.interface import LogUnavailable

_log = logging.getLogger(__name__)
_REFRESH_S = 1.0


class UnwantedCopy:
    """Knows which partitions are unwanted, at most about a second late.

    An Exchange restart leaves thousands of marks: `version` is asked every second, and may be
    anything that changes with the marks; `read` only when it has changed.
    """

    def __init__(self, version: Callable[[], Any], read: Callable[[], frozenset[str]]) -> None:
        self._ask_version, self._read = version, read
        self._partitions: frozenset[str] = frozenset()
        self._version: Any = None
        self._refresh_at = 0.0  # by time.monotonic
        self._refreshing = threading.Lock()

    def wants(self, partition: str) -> bool:
        """Whether the partition is wanted; looks at the log at most once a second."""
        if time.monotonic() >= self._refresh_at and self._refreshing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._refresh_at = time.monotonic() + _REFRESH_S
                self._refreshing.release()
        return partition not in self._partitions

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
            _log.warning("the unwanted partitions are those of before: %s", error)
