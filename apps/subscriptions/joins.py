"""Works the joins in the log off, as the drain does with mail: a stream, without a barrier.

Joins at one mail server wait for each other, so that announcements go first there; joins at another
one never wait for them, be that server slow, hanging, or flooded by all the phones of a site.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from apps.eventlog.interface import Entry, EventLog, LogUnavailable
from apps.exchange import limits
from apps.exchange.interface import Endpoint
from apps.subscriptions.database import in_joins_database
from apps.subscriptions.entries import JOIN
from apps.subscriptions.joining import DEADLINE_S, Joiner
from apps.subscriptions.models import Subscription
from apps.subscriptions.webhook_url import id_of, name_of
from apps.vault.redact import where

log = logging.getLogger(__name__)

# Joins under way at one mail server; and how many more of it are kept at hand.
AT_ONCE: Final = 16
_AT_HAND: Final = 48
_HELD_AT_MOST: Final = 512
_CLAIM_AT_MOST: Final = 64
# All times in seconds. Whoever waits for a turn keeps the lease by renewals.
_LEASE_S: Final = DEADLINE_S + 15.0
_RENEW_EVERY_S: Final = 10.0
_POLL_S: Final = 0.1
# After a claim that brought nothing but more of what is waiting already.
_FLOOD_POLL_S: Final = 0.5
# What has no place at hand comes back after so long, longer each time, so that a flood at one
# server is not claimed and handed back all the time.
_NO_PLACE_S: Final = 3.0
_NO_PLACE_AT_MOST_S: Final = 60.0
_TIMED_OUT_S: Final = 5.0
_UNEXPECTED_S: Final = 60.0
_SLOW_S: Final = 1.0


class Joins:
    """The joins of one worker process; one `run` at a time (tasks.py sees to it)."""

    def __init__(self, event_log: EventLog, joiner: Joiner, worker: str) -> None:
        self._log = event_log
        self._joiner = joiner
        self._worker = worker
        self._running: dict[int, asyncio.Task[None]] = {}
        self._begun: dict[int, float] = {}
        self._held: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._renewed_at = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing more: what is under way is finished, the rest is handed back."""
        self._stopping = True

    async def run(self, seconds: float, linger_s: float) -> int:
        """Work for `seconds`, or until there has been nothing to do for `linger_s`.

        Returns how many entries it took. Like the drain, it goes on past its time while joins are
        under way that take long, lest the others wait for a mail server that hangs.
        """
        ends = time.monotonic() + seconds
        idle_since = time.monotonic()
        taken = 0
        while not self._stopping:
            over = time.monotonic() >= ends
            claimed = [] if over and not self._has_slow_ones() else await self._claim()
            taken += len(claimed)
            pause = await self._start(claimed)
            if claimed or self._running:
                idle_since = time.monotonic()
            elif over or time.monotonic() - idle_since > linger_s:
                break
            await asyncio.sleep(pause)
            await self._renew()
        while self._running:
            await asyncio.wait(self._running.values(), timeout=_POLL_S)
            await self._renew()
        return taken

    def _has_slow_ones(self) -> bool:
        begun_before = time.monotonic() - _SLOW_S
        return any(begun < begun_before for begun in self._begun.values())

    async def _claim(self) -> list[Entry]:
        room = min(_HELD_AT_MOST - len(self._running), _CLAIM_AT_MOST)
        if room <= 0:
            return []
        try:
            return await in_joins_database(self._log.claim, JOIN, self._worker, room, _LEASE_S)
        except LogUnavailable:
            log.warning("the event log is unavailable")
            await asyncio.sleep(1.0)
            return []

    async def _start(self, claimed: Sequence[Entry]) -> float:
        """Begin what was claimed, as far as there is room at its server; how long to pause then."""
        if not claimed:
            return _POLL_S
        hosts = await in_joins_database(_hosts, claimed)
        no_place = []
        for entry in claimed:
            host = hosts.get(entry.partition, "")
            if self._held[host] >= AT_ONCE + _AT_HAND:
                no_place.append(entry)
                continue
            self._held[host] += 1
            self._begun[entry.id] = time.monotonic()
            self._running[entry.id] = asyncio.create_task(self._work(entry, host))
        if no_place:
            await self._settle(no_place, _come_back_after(no_place))
        return _POLL_S if len(no_place) < len(claimed) else _FLOOD_POLL_S

    async def _work(self, entry: Entry, host: str) -> None:
        turn = self._turns.setdefault(host, asyncio.Semaphore(AT_ONCE))
        try:
            async with turn:
                again = 0.0 if self._stopping else await self._finish(entry)
            await self._settle([entry], again)
        finally:
            self._held[host] -= 1
            self._begun.pop(entry.id, None)
            self._running.pop(entry.id, None)

    async def _finish(self, entry: Entry) -> float | None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._joiner.finish(entry)
        except TimeoutError:
            return _TIMED_OUT_S
        except Exception as error:  # noqa: BLE001 - one join must not stop the others
            log.error("a join failed: %s", where(error))
            return _UNEXPECTED_S

    async def _settle(self, entries: Sequence[Entry], again: float | None) -> None:
        ids = [entry.id for entry in entries]
        try:
            if again is None:
                await in_joins_database(self._log.acknowledge, ids)
            else:
                await in_joins_database(self._log.delay, ids, self._worker, again)
        except LogUnavailable:
            # Its lease runs out, and it is found done.
            log.warning("the event log is unavailable; a join will be looked at again")

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed_at < _RENEW_EVERY_S or not self._running:
            return
        self._renewed_at = time.monotonic()
        held = list(self._running)
        try:
            await in_joins_database(self._log.renew, held, self._worker, _LEASE_S)
        except LogUnavailable:
            log.warning("the event log is unavailable; leases may run out")


def _hosts(entries: Sequence[Entry]) -> dict[str, str]:
    """The mail server of each entry, by partition: one query; none where the row is no more.

    Those of a mail system whose addresses are not known yet count as at one server.
    """
    ids = []
    for entry in entries:
        with suppress(ValueError):  # a damaged one is looked at by itself, and stops no other
            ids.append(id_of(entry.partition))
    rows = Subscription.objects.filter(id__in=ids)
    return {
        name_of(subscription_id): limits.name_of(Endpoint(url), joins=True)
        if url
        else f"mail system {system}"
        for subscription_id, url, system in rows.values_list(
            "id", "ews_url", "mailbox__mail_system_id"
        )
    }


def _come_back_after(entries: Sequence[Entry]) -> float:
    tries = max(entry.attempts for entry in entries)
    longest = min(_NO_PLACE_S * tries, _NO_PLACE_AT_MOST_S)
    return longest * (0.5 + secrets.randbelow(1000) / 1000)
