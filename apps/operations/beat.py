"""Celery beat, of which every server may run one: who holds the lease sends the pokes.

The others let the same schedule run and send nothing, so they are ready at any moment. One that was
stopped, and wakes up with its lease gone, is silent too. Should two ever send at once, for the
moment between a look and a message, nothing is done twice: messages are pokes (docs/architecture).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry
from django.db import DatabaseError, connection

from apps.operations.lease import BEAT, Holder


class Scheduler(PersistentScheduler):
    """Celery's own scheduler, which sends only while this process has its turn."""

    _lease: Holder

    def setup_schedule(self) -> None:
        """Read the schedule and queue for the lease; not called for one that is only shown."""
        super().setup_schedule()
        self._lease = Holder(BEAT)
        self._lease.keep()

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send a task that is due, if it is ours to send."""
        if self._lease.held:
            super().apply_entry(entry, producer)

    def close(self) -> None:
        """End in good order: the next one need not wait."""
        with suppress(DatabaseError):  # it is away: then the lease runs out by itself
            self._lease.give_back()
        connection.close()
        super().close()
