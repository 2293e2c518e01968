"""Keeps one slow mail server from hurting the users of another, and us from hurting either.

Per host: a limit on calls under way, and a breaker that stops calling a server that has not
answered, or was busy, several times in a row. Per account: a pause for as long as the server wants
one, because Exchange throttles users, each by a budget of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from apps.exchange.errors import ServerBusy, Unreachable
from apps.exchange.interface import (
    NO_EXTRAS,
    Credentials,
    Described,
    Endpoint,
    Extras,
    Item,
    Joined,
    MailServer,
    Proof,
)

# In a row; then the host is left alone for so many seconds, and one call tries again.
_FAILURES: Final = 5
_OPEN_S: Final = 15.0
_ACCOUNTS: Final = 10_000


class _Host:
    """What is known of one mail server just now."""

    def __init__(self, at_once: int) -> None:
        self.free = asyncio.Semaphore(at_once)
        self.failures = 0
        self.closed_until = 0.0
        self.busy_until: dict[str, float] = {}

    def check(self, account: str) -> None:
        """Refuse a call that the server should not get; raises what the server would."""
        now = time.monotonic()
        busy_until = self.busy_until.get(account, 0.0)
        if now < busy_until:
            raise ServerBusy(busy_until - now)
        self.busy_until.pop(account, None)
        if now < self.closed_until:
            raise Unreachable("breaker_open")
        if self.closed_until:
            # One call finds out; the others wait for its outcome.
            self.closed_until = now + _OPEN_S

    def throttled(self, account: str, seconds: float) -> None:
        """This account is to be left alone for so long."""
        if len(self.busy_until) >= _ACCOUNTS:
            now = time.monotonic()
            self.busy_until = {k: until for k, until in self.busy_until.items() if until > now}
        self.busy_until[account] = time.monotonic() + seconds

    def failed(self) -> None:
        self.failures += 1
        if self.failures >= _FAILURES:
            self.closed_until = time.monotonic() + _OPEN_S

    def answered(self) -> None:
        self.failures, self.closed_until = 0, 0.0


class LimitedServer:
    """A MailServer that calls another one within limits per host.

    Args:
        inner: the mail server client proper.
        at_once: calls under way to one host at most; others wait, and that counts in their
            deadline.
    """

    def __init__(self, inner: MailServer, at_once: int) -> None:
        self._inner = inner
        self._at_once = at_once
        self._hosts: dict[str, _Host] = {}

    async def prove(
        self, endpoint: Endpoint, credentials: Credentials, address: str, deadline_s: float
    ) -> Proof:
        """See `MailServer.prove`."""
        async with self._turn(endpoint, credentials, deadline_s) as left:
            return await self._inner.prove(endpoint, credentials, address, left)

    async def join(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        callback_url: str,
        status_frequency_minutes: int,
        deadline_s: float,
    ) -> Joined:
        """See `MailServer.join`."""
        async with self._turn(endpoint, credentials, deadline_s) as left:
            return await self._inner.join(
                endpoint, credentials, callback_url, status_frequency_minutes, left
            )

    async def describe(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        item_ids: Sequence[str],
        want_unread: bool,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> Described:
        """See `MailServer.describe`."""
        async with self._turn(endpoint, credentials, deadline_s) as left:
            return await self._inner.describe(
                endpoint, credentials, item_ids, want_unread, left, extras
            )

    async def newest_unread(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        since: datetime,
        limit: int,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> list[Item]:
        """See `MailServer.newest_unread`."""
        async with self._turn(endpoint, credentials, deadline_s) as left:
            return await self._inner.newest_unread(
                endpoint, credentials, since, limit, left, extras
            )

    @asynccontextmanager
    async def _turn(
        self, endpoint: Endpoint, credentials: Credentials, deadline_s: float
    ) -> AsyncIterator[float]:
        """Wait for a place at the host; yields the seconds that are left for the call."""
        name = urlsplit(endpoint.url).netloc.lower()
        host = self._hosts.setdefault(name, _Host(self._at_once))
        host.check(credentials.account)
        ends = time.monotonic() + deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                await host.free.acquire()
        except TimeoutError:
            raise Unreachable("no_place_in_time") from None
        try:
            yield max(0.0, ends - time.monotonic())
        except ServerBusy as busy:
            host.throttled(credentials.account, busy.back_off_s)
            host.failed()
            raise
        except Unreachable:
            host.failed()
            raise
        else:
            host.answered()
        finally:
            host.free.release()
