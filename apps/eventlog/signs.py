"""Signs of life, gathered in the process and written in one batch every few seconds.

Heartbeats are most of what Exchange sends; one by one they would be most of what the database
does. A process that is killed loses a few seconds of them, which the next heartbeat mends.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from apps.eventlog.interface import LogUnavailable

_log = logging.getLogger(__name__)

SIGNS_EVERY_S: Final = 3.0


class SignOfLife(NamedTuple):
    """When a partition was last heard of (seconds since the epoch), and the newest mark."""

    at: float
    mark: str


class SignBuffer:
    """Holds the newest sign of each partition; `write` gets them from a daemon thread.

    No lock guards the dictionary: setting an item and popping one are atomic, so a sign noted
    while others are written is either among these or among the next.
    """

    def __init__(self, write: Callable[[dict[str, SignOfLife]], None], every_s: float) -> None:
        self._write = write
        self._every_s = every_s
        self._signs: dict[str, SignOfLife] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def note(self, partition: str, at: float, mark: str) -> None:
        """Remember a sign of life; without a mark, the one that waits to be written stays."""
        if not mark and (waiting := self._signs.get(partition)):
            mark = waiting.mark
        self._signs[partition] = SignOfLife(at, mark)
        # Not alive: this is the first sign, or the process was forked and its threads are gone.
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def flush(self) -> None:
        """Write what is there; signs that can't be written wait for the next time."""
        taken: dict[str, SignOfLife] = {}
        while self._signs:
            partition, sign = self._signs.popitem()
            taken[partition] = sign
        if not taken:
            return
        try:
            self._write(taken)
        except LogUnavailable as error:
            _log.warning("%d signs of life wait: %s", len(taken), error)
            for partition, sign in taken.items():
                newer = self._signs.setdefault(partition, sign)
                if not newer.mark:
                    self._signs[partition] = SignOfLife(newer.at, sign.mark)

    def drop(self, partitions: Iterable[str]) -> None:
        """Forget what was noted of these partitions and not written yet."""
        for partition in partitions:
            self._signs.pop(partition, None)

    def close(self) -> None:
        """Write what is there and end the thread. Called at the end of the process."""
        self._stop.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=self._every_s)
        self.flush()
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._starting:
            if self._stop.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            if self._thread is None:
                atexit.register(self.close)
            self._thread = threading.Thread(target=self._run, name="eventlog-signs", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.flush()
            except Exception:  # noqa: BLE001 - a dead thread would silence every subscription
                _log.error("signs of life could not be written", exc_info=True)
