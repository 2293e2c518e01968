"""Joins and housekeeping as Celery tasks. Both find their work by themselves."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Final

from celery import shared_task
from django.conf import settings

from apps.cns.configured import shared_client
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry
from apps.subscriptions import ending, scan, wakeups
from apps.subscriptions.database import in_joins_database
from apps.subscriptions.entries import JOIN
from apps.subscriptions.joining import DEADLINE_S, Joiner
from apps.subscriptions.poke import JOIN_TASK, wake_drain
from apps.subscriptions.runtime import mail_server, worker_name
from apps.vault.redact import where
from apps.wire import background

log = logging.getLogger(__name__)

# Joins are limited so that announcements go first; all times in seconds.
_AT_ONCE: Final = 16
_LEASE_S: Final = DEADLINE_S + 15.0
_RUN_S: Final = 20.0
_LINGER_S: Final = 1.0
_POLL_S: Final = 0.1
_UNEXPECTED_S: Final = 60.0
_one_at_a_time = threading.Lock()
_one_waker = threading.Lock()
# When thousands are lost at once, a scan takes longer than until the next one.
_one_scanner = threading.Lock()
# As beat is told in ens_project/settings.py.
WAKE_EVERY_S: Final = 1.0


@shared_task(name=JOIN_TASK)
def join() -> int:
    """Finish the joins that wait in the log; returns how many entries it took."""
    if not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        return background.run(_join())
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
        return wakeups.send_due(shared_client(), WAKE_EVERY_S, settings.ENS.wakeups_a_second)
    finally:
        _one_waker.release()


@shared_task(name="subscriptions.scan")
def look() -> int:
    """Find silent subscriptions, missed check-ins and overdue proofs (scan.py)."""
    if not _one_scanner.acquire(blocking=False):
        return 0
    try:
        lost = scan.silent_subscriptions()
        scan.missed_checkins()
        scan.overdue_proofs()
        return lost
    finally:
        _one_scanner.release()


async def _join() -> int:
    event_log = get_log()
    joiner = Joiner(event_log, mail_server(), wake_drain)
    worker = worker_name()
    running: set[asyncio.Task[None]] = set()
    taken, ends = 0, time.monotonic() + _RUN_S
    idle_since = time.monotonic()
    while time.monotonic() < ends:
        room = _AT_ONCE - len(running)
        claimed: list[Entry] = []
        if room:
            claimed = await in_joins_database(event_log.claim, JOIN, worker, room, _LEASE_S)
        taken += len(claimed)
        for entry in claimed:
            task = asyncio.create_task(_finish(joiner, entry, worker))
            running.add(task)
            task.add_done_callback(running.discard)
        if claimed or running:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _LINGER_S:
            break
        await asyncio.sleep(_POLL_S)
    if running:
        await asyncio.wait(running)
    return taken


async def _finish(joiner: Joiner, entry: Entry, worker: str) -> None:
    event_log = get_log()
    try:
        async with asyncio.timeout(DEADLINE_S):
            again = await joiner.finish(entry)
    except TimeoutError:
        again = 5.0
    except Exception as error:  # noqa: BLE001 - one join must not stop the others
        log.error("a join failed: %s", where(error))
        again = _UNEXPECTED_S
    if again is None:
        await in_joins_database(event_log.acknowledge, [entry.id])
    else:
        await in_joins_database(event_log.delay, [entry.id], worker, again)
