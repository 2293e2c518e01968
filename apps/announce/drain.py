"""The drain: reads the event log as a stream and keeps many mailboxes under way at once.

There is no barrier: it claims whenever fewer than a limit of mailboxes are being worked on, what
waits for one mailbox is merged into one job, and what is done is recorded in batches.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db import DatabaseError

from apps import clock, request_id
from apps.announce.context import Context, load
from apps.announce.mailbox_job import MailboxJob, Outcome
from apps.eventlog.interface import Entry, EventLog, LogUnavailable
from apps.history import counters, names
from apps.subscriptions.database import in_database, in_records_database
from apps.subscriptions.entries import MAIL
from apps.subscriptions.models import Subscription
from apps.vault.redact import where

log = logging.getLogger(__name__)

# All times in seconds. The deadline is below the lease, so nobody else takes over a running job.
DEADLINE_S: Final = 20.0
LEASE_S: Final = 30.0
_RENEW_EVERY_S: Final = 10.0
_IDLE_POLL_S: Final = 0.05
_CLAIM_EVERY_S: Final = 0.02
_FLUSH_EVERY_S: Final = 0.01
_LOG_AWAY_S: Final = 1.0
# A log that restarts or fails over is back in seconds; so long a run that ends waits for it.
_RECORD_AGAIN_S: Final = 0.25
_LAST_TRIES: Final = 50
_CLAIM_AT_MOST: Final = 100
# After this an announcement is no news any more; its entry becomes a dead letter.
MAX_AGE_S: Final = 3600.0
_BACK_OFF_S: Final = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_MARKS_KEPT_S: Final = 24 * 3600
# A job that takes longer waits for a mail server; a run that is to end does not wait for it.
_SLOW_S: Final = 0.5


@dataclass(slots=True)
class _Done:
    """What finished jobs left to record in the log."""

    seen: list[str] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    delayed: list[tuple[list[int], float]] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)
    watermarks: dict[uuid.UUID, str] = field(default_factory=dict)
    revived: list[str] = field(default_factory=list)

    def add(self, other: _Done) -> None:
        """Take over what another one holds."""
        self.seen += other.seen
        self.acknowledged += other.acknowledged
        self.delayed += other.delayed
        self.buried += other.buried
        self.watermarks = other.watermarks | self.watermarks
        self.revived += other.revived

    def __bool__(self) -> bool:
        return any((self.seen, self.acknowledged, self.delayed, self.buried, self.watermarks))


class Drain:
    """Works the log off. One per worker process at a time (tasks.py sees to it)."""

    def __init__(self, event_log: EventLog, job: MailboxJob, worker: str, in_flight: int) -> None:
        self._log = event_log
        self._job = job
        self._worker = worker
        self._in_flight = in_flight
        self._jobs: dict[int, asyncio.Task[None]] = {}
        self._held: dict[str, list[int]] = {}
        self._begun: dict[str, float] = {}
        self._done = _Done()
        self._renewed_at = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """Claim nothing more: what is under way is finished or handed back, then `run` returns."""
        self._stopping = True

    async def run(self, seconds: float, linger_s: float) -> int:
        """Drain for `seconds`, or until the log has been empty for `linger_s`.

        Returns how many entries were worked on. Everything claimed is finished or handed back. A
        run whose time is over claims nothing while its last jobs end; but a mail server that hangs
        must not keep the others' mail waiting, so with slow jobs under way it goes on.
        """
        over = asyncio.Event()
        flushing = asyncio.create_task(self._keep_flushing(over))
        try:
            return await self._work(seconds, linger_s)
        finally:
            over.set()
            await flushing

    async def _work(self, seconds: float, linger_s: float) -> int:
        ends = time.monotonic() + seconds
        idle_since = time.monotonic()
        worked = 0
        while not self._stopping:
            over = time.monotonic() >= ends
            claimed = [] if over and not self._has_slow_jobs() else await self._claim()
            worked += len(claimed)
            if claimed:
                await self._start(claimed)
            if claimed or self._jobs:
                idle_since = time.monotonic()
            elif over or time.monotonic() - idle_since > linger_s:
                break
            await asyncio.sleep(_CLAIM_EVERY_S if self._jobs or claimed else _IDLE_POLL_S)
        while self._jobs:
            await asyncio.wait(self._jobs.values())
        return worked

    async def _keep_flushing(self, over: asyncio.Event) -> None:
        """Record beside the claims, which may be slow: what is not recorded yet when this process
        is killed is announced again."""
        while not over.is_set():
            await self._flush()
            await asyncio.sleep(_FLUSH_EVERY_S if self._jobs or self._done else _IDLE_POLL_S)
        for _ in range(_LAST_TRIES):
            await self._flush()
            if not self._done:
                break

    def _has_slow_jobs(self) -> bool:
        begun_before = time.monotonic() - _SLOW_S
        return any(begun < begun_before for begun in self._begun.values())

    async def _claim(self) -> list[Entry]:
        room = self._in_flight - len(self._jobs)
        if room <= 0:
            return []
        try:
            return await in_database(
                self._log.claim,
                MAIL,
                self._worker,
                min(room, _CLAIM_AT_MOST),
                LEASE_S,
                skip_partitions=tuple(self._held),
            )
        except LogUnavailable:
            log.warning("the event log is unavailable")
            await asyncio.sleep(_LOG_AWAY_S)
            return []

    async def _start(self, claimed: Sequence[Entry]) -> None:
        """Start a job for each mailbox that entries were claimed for."""
        by_partition: dict[str, list[Entry]] = {}
        for entry in claimed:
            by_partition.setdefault(entry.partition, []).append(entry)
        contexts = await self._contexts(by_partition)
        for partition, entries in by_partition.items():
            if partition not in contexts:
                continue
            context = contexts[partition]
            ids = [entry.id for entry in entries]
            if context is None:
                # The subscription is no more: tell Exchange when it next calls.
                await in_database(self._log.set_unwanted, partition)
                self._done.acknowledged += ids
                continue
            self._held[partition] = ids
            self._begun[partition] = time.monotonic()
            before = self._jobs.get(context.mailbox.pk)
            job = asyncio.create_task(self._run_job(partition, context, entries, before))
            self._jobs[context.mailbox.pk] = job

    async def _contexts(
        self, by_partition: Mapping[str, Sequence[Entry]]
    ) -> dict[str, Context | None]:
        """What is known of each partition; None where the subscription is no more.

        Usually one look for all. Where that trips over something (a damaged row or entry), each
        is looked at by itself, so that one mailbox's trouble stops no other's mail.
        """
        every = [entry for entries in by_partition.values() for entry in entries]
        try:
            loaded = await in_database(load, every)
        except Exception as error:  # noqa: BLE001 - its text may hold what it is about
            log.error("the drain can't load its entries: %s", where(error))
        else:
            return {partition: loaded.get(partition) for partition in by_partition}
        found: dict[str, Context | None] = {}
        for partition, entries in by_partition.items():
            try:
                loaded = await in_database(load, entries)
            except Exception as error:  # noqa: BLE001 - one bad entry only
                log.error("entries %s can't be loaded: %s", entries[0].id, where(error))
                failed = Outcome()
                failed.again(_BACK_OFF_S[-1])
                self._record(entries, failed)
            else:
                found[partition] = loaded.get(partition)
        return found

    async def _run_job(
        self,
        partition: str,
        context: Context,
        entries: Sequence[Entry],
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.wait([before])  # two subscriptions of one mailbox: one after the other
        outcome = Outcome()
        request_id.work_on(work.request_id or request_id.new() for work in context.works)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._job.run(context, entries, outcome)
        except TimeoutError:
            log.warning("subscription %s: over its deadline", context.subscription.id)
            outcome.again(_BACK_OFF_S[0])
        except Exception as error:  # noqa: BLE001 - see below
            # One entry that trips us must not stop the others; its text may hold what it is about.
            log.error("subscription %s: %s", context.subscription.id, where(error))
            outcome.again(_BACK_OFF_S[-1])
        log.info("subscription %s: %d announced", context.subscription.id, len(outcome.seen))
        self._record(entries, outcome)
        if outcome.watermark:
            self._done.watermarks[context.subscription.id] = outcome.watermark
        if outcome.caught_up and outcome.retry_after_s is None:
            self._done.revived += context.dead_letters
        self._held.pop(partition, None)
        self._begun.pop(partition, None)
        if self._jobs.get(context.mailbox.pk) is asyncio.current_task():
            del self._jobs[context.mailbox.pk]

    def _record(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        self._done.seen += outcome.hushed
        _time(entries, outcome)
        if outcome.retry_after_s is None:
            self._done.acknowledged += [entry.id for entry in entries]
            return
        now = time.time()
        young = []
        for entry in entries:
            if now - entry.appended_at > MAX_AGE_S:
                self._done.buried.append((entry.id, "too_old"))
                counters.count(names.BURIED)
            else:
                young.append(entry)
        if young:
            tries = max(entry.attempts for entry in young)
            back_off = _BACK_OFF_S[min(tries, len(_BACK_OFF_S)) - 1]
            self._done.delayed.append(
                ([entry.id for entry in young], max(back_off, outcome.retry_after_s))
            )

    async def _flush(self) -> None:
        """Record what is done, marks first; renew the leases of what is not."""
        self._done.seen += self._job.take_marks()
        if self._done:
            done, self._done = self._done, _Done()
            try:
                await in_records_database(self._write, done)
                self._job.marks_written(done.seen)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must be recorded
                if not isinstance(error, LogUnavailable):
                    log.error("what is done can't be recorded: %s", where(error))
                log.warning("the event log is unavailable; what is done is recorded later")
                self._done.add(done)
                await asyncio.sleep(_RECORD_AGAIN_S)
        if time.monotonic() - self._renewed_at > _RENEW_EVERY_S and self._held:
            self._renewed_at = time.monotonic()
            held = [entry_id for ids in self._held.values() for entry_id in ids]
            try:
                await in_database(self._log.renew, held, self._worker, LEASE_S)
            except LogUnavailable:
                log.warning("the event log is unavailable; leases may run out")

    def _write(self, done: _Done) -> None:
        if done.seen:
            self._log.mark_seen(done.seen, _MARKS_KEPT_S)
        if done.acknowledged:
            self._log.acknowledge(done.acknowledged)
        for ids, seconds in done.delayed:
            self._log.delay(ids, self._worker, seconds)
        for entry_id, reason in done.buried:
            self._log.bury(entry_id, reason)
        if done.revived:
            self._log.revive(done.revived)
        if done.watermarks:
            _write_watermarks(done.watermarks)


def _write_watermarks(watermarks: Mapping[uuid.UUID, str]) -> None:
    """Note how far each subscription was worked on: one statement for many."""
    now = clock.now()
    rows = [
        Subscription(id=subscription_id, watermark=mark, watermark_at=now)
        for subscription_id, mark in watermarks.items()
    ]
    try:
        if len(rows) == 1:
            # Where little is going on; a third of what the other way costs for one.
            one = Subscription.objects.filter(id=rows[0].id)
            one.update(watermark=rows[0].watermark, watermark_at=now)
        else:
            Subscription.objects.bulk_update(rows, ["watermark", "watermark_at"], batch_size=200)
    except DatabaseError as error:
        # Nothing is lost by it: the next notification looks like a gap and is caught up with.
        log.warning("watermarks are not written: %s", type(error).__name__)


def _time(entries: Sequence[Entry], outcome: Outcome) -> None:
    """Count how long it took from the webhook to the push's acceptance, where one was."""
    if outcome.seen:
        for entry in entries:
            counters.observe(names.LATENCY, (time.time() - entry.appended_at) * 1000)
