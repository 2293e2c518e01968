"""What happened in this process and is not written yet; one batch every other second.

The hot path only adds to a list or a dictionary. A process that is killed with -9 loses what it
gathered in the last seconds; at a normal end, and so on SIGTERM, everything is written.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections import Counter
from multiprocessing import util as multiprocessing_util
from typing import Final

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from apps.vault.redact import where

log = logging.getLogger(__name__)

FLUSH_EVERY_S: Final = 1.5
# While the database is away, so much is kept; what comes then is dropped.
_ENTRIES_KEPT: Final = 20_000
_COUNTS_KEPT: Final = 5_000
_ROWS_A_STATEMENT: Final = 400  # two parameters each: SQL Server takes 2,100 in all


class Buffer:
    """Entries and counts of this process. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._entries: list[tuple[uuid.UUID, str]] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def add_entry(self, device_id: uuid.UUID, text: str) -> None:
        """Keep an entry of a device's story (JSON) for the next flush."""
        with self._adding:
            if len(self._entries) < _ENTRIES_KEPT:
                self._entries.append((device_id, text))
        self._see_to_thread()

    def add_count(self, name: str, n: int) -> None:
        """Add to what is counted under a name in this minute."""
        key = (name, int(time.time()) // 60)
        with self._adding:
            if len(self._counts) < _COUNTS_KEPT or key in self._counts:
                self._counts[key] += n
        self._see_to_thread()

    def flush(self) -> None:
        """Write everything now. What the database doesn't take is kept for the next time.

        Raises:
            DatabaseError: the database doesn't take it.
        """
        with self._writing:
            with self._adding:
                entries, self._entries = self._entries, []
                counts, self._counts = self._counts, Counter()
            try:
                if entries:
                    _write_entries(entries)
                    entries = []
                if counts:
                    _write_counts(counts)
                    counts = Counter()
            finally:
                with self._adding:
                    self._entries = (entries + self._entries)[:_ENTRIES_KEPT]
                    self._counts.update(counts)

    def close(self) -> None:
        """Write what is there and end the thread; called at the end of the process."""
        self._stop.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=FLUSH_EVERY_S)
        self._flush_quietly()

    def _see_to_thread(self) -> None:
        # Not alive: the first call, or the process was forked and has only its main thread.
        if (self._thread is None or not self._thread.is_alive()) and not self._stop.is_set():
            with self._adding:
                if self._thread is None or not self._thread.is_alive():
                    self._start()

    def _start(self) -> None:
        if self._thread is None:
            atexit.register(self.close)
            # A web server's worker may be a child of multiprocessing, which skips atexit.
            multiprocessing_util.Finalize(None, self.close, exitpriority=1)
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_EVERY_S):
            self._flush_quietly()

    def _flush_quietly(self) -> None:
        with self._adding:
            if not self._entries and not self._counts:
                return
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - history must never take anything down with it
            log.warning("history can't be written: %s", where(error))
        finally:
            # This thread is idle until the next batch; its connection would only be in the way.
            if not connection.in_atomic_block:
                connection.close()


def _write_entries(entries: list[tuple[uuid.UUID, str]]) -> None:
    from apps.history.models import LooseEntry

    rows = [LooseEntry(device_id=device_id, text=text) for device_id, text in entries]
    LooseEntry.objects.bulk_create(rows, batch_size=_ROWS_A_STATEMENT)


def _write_counts(counts: Counter[tuple[str, int]]) -> None:
    """Add to the rows of other processes too; in one order, so that none waits in a circle."""
    with transaction.atomic():
        for (name, minute), n in sorted(counts.items()):
            add_to_minute(name, minute, n)


def add_to_minute(name: str, minute: int, n: int) -> None:
    """Add to a row that may or may not be there; call inside a transaction.

    Not one upsert: SQL Server has none that the ORM compiles.
    """
    from apps.history.models import MinuteCount

    row = MinuteCount.objects.filter(name=name, minute=minute)
    if row.update(n=F("n") + n):
        return
    try:
        with transaction.atomic():
            MinuteCount.objects.create(name=name, minute=minute, n=n)
    except IntegrityError:
        row.update(n=F("n") + n)


buffer = Buffer()
