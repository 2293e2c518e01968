"""History's housekeeping as a Celery task."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from apps.history import counters, stories

# So that one run ends even while more comes than it packs.
_ROUNDS: Final = 20


@shared_task(name="history.housekeeping")
def housekeeping() -> None:
    """Pack what is loose, delete what is old."""
    for _ in range(_ROUNDS):
        if not stories.pack():
            break
    stories.purge()
    counters.fold()
