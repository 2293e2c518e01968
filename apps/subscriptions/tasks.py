"""Joins and housekeeping as Celery tasks. Both find their work by themselves."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Final

from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings

from apps.cns.configured import usable_client
from apps.eventlog.factory import get_log
from apps.subscriptions import ending, scan, wakeups
from apps.subscriptions.joining import Joiner
from apps.subscriptions.joins import Joins
from apps.subscriptions.poke import JOIN_TASK, wake_drain
from apps.subscriptions.runtime import mail_server, worker_name
from apps.wire import background

# In seconds.
_RUN_S: Final = 20.0
_LINGER_S: Final = 1.0
_one_at_a_time = threading.Lock()
_one_waker = threading.Lock()
# When thousands are lost at once, a scan takes longer than until the next one.
_one_scanner = threading.Lock()


@shared_task(name=JOIN_TASK)
def join() -> int:
    """Finish the joins that wait in the log; returns how many entries it took."""
    if not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        return background.run(_joins().run(_RUN_S, _LINGER_S))
    finally:
        _one_at_a_time.release()


@shared_task(name="subscriptions.housekeeping")
def housekeeping() -> None:
    """End what is overdue, shred what nobody needs (ending.housekeeping)."""
    ending.housekeeping()


@shared_task(name="subscriptions.wake")
def wake() -> int:
    """Send the wake-ups that are due (wakeups.py); returns how many."""
    if not _one_waker.acquire(blocking=False):
        return 0
    try:
        cns = usable_client()
        return 0 if cns is None else wakeups.send_due(cns, settings.ENS.wakeups_a_second)
    finally:
        _one_waker.release()


@shared_task(name="subscriptions.scan")
def look() -> int:
    """Find what has gone silent, missed, overdue or is about to expire (scan.py)."""
    if not _one_scanner.acquire(blocking=False):
        return 0
    try:
        lost = scan.silent_subscriptions()
        scan.missed_checkins()
        scan.overdue_proofs()
        scan.expiring_credentials()
        return lost
    finally:
        _one_scanner.release()


@lru_cache(maxsize=1)
def _joins() -> Joins:
    joiner = Joiner(get_log(), mail_server(), wake_drain)
    return Joins(get_log(), joiner, worker_name())


@worker_shutting_down.connect
def _finish(**_: object) -> None:
    """On SIGTERM: begin nothing more; Celery waits for the task, which ends within its deadline."""
    if _joins.cache_info().currsize:
        _joins().stop()
