"""The drain as a Celery task: a poke starts it, it works while there is work, then returns."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Final

from celery import shared_task
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import DatabaseError

from apps.announce.drain import Drain
from apps.announce.mailbox_job import MailboxJob
from apps.announce.pushing import Pusher
from apps.cns.client import CnsClient, Service
from apps.cns.configured import usable_client
from apps.eventlog.factory import get_log
from apps.history import counters, names
from apps.subscriptions.poke import DRAIN_TASK
from apps.subscriptions.runtime import mail_server, worker_name
from apps.wire import background

_RUN_S: Final = 20.0
# After its last entry the drain waits a little for the next: a stream of mail costs one poke.
_LINGER_S: Final = 2.0
# Waiting jobs cost little; what they wait for is limited per mail server and at the relay.
_MAILBOXES_AT_ONCE: Final = 1000
# A roll of the signing key holds within five seconds: LOOK_AGAIN_S and this.
_LOOK_S: Final = 2.0
_one_at_a_time = threading.Lock()
_made: Drain | None = None


@shared_task(name=DRAIN_TASK)
def drain() -> int:
    """Drain the event log; a second poke of the same process finds the lock and returns."""
    if not _one_at_a_time.acquire(blocking=False):
        return 0
    counters.count(names.DRAIN_RUNS)
    try:
        # Asked each time: it looks now and then whether CNS or key are others now.
        cns = usable_client()
        return 0 if cns is None else _run(cns)
    finally:
        _one_at_a_time.release()


def _run(cns: CnsClient) -> int:
    """One run of the drain, in the loop's thread; meanwhile, see whether CNS or key change."""
    global _made
    if _made is None:
        _made = _drain(cns)
    running = asyncio.run_coroutine_threadsafe(
        _made.run(_RUN_S, _LINGER_S), background.background_loop()
    )
    while True:
        try:
            return running.result(timeout=_LOOK_S)
        except TimeoutError:
            if running.done():
                raise
            # A database that is away is the drain's own to notice.
            with suppress(DatabaseError):
                usable_client()


def _drain(cns: CnsClient) -> Drain:
    pushers: dict[Service, Pusher] = {
        "apns": Pusher(cns, "apns"),
        "fcm": Pusher(cns, "fcm"),
    }
    job = MailboxJob(get_log(), mail_server(), pushers, settings.ENS.pushes_in_flight)
    return Drain(get_log(), job, worker_name(), _MAILBOXES_AT_ONCE)


@worker_shutting_down.connect
def _finish(**_: object) -> None:
    """On SIGTERM: claim nothing more; Celery waits for the task, which ends within its deadline."""
    if _made is not None:
        _made.stop()
