"""Keeps one slow mail server from hurting the users of another, one user from hurting the others
of his server, and us from hurting anybody.

What a refusal is about is decided by what Microsoft says of it:
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange

- ErrorServerBusy, ErrorExceededConnectionCount, ErrorTooManyObjectsOpened tell of the budget of one
  user: his account pauses, for as long as the server wants or growing, and nobody else.
- HTTP 429 isn't Exchange's own; a gateway or load balancer says it to "the user" (RFC 6585, 4):
  the account pauses for Retry-After. If it counts all of us as one, all pause, one by one.
- HTTP 503 means that requests are queueing in IIS, which is the host's trouble: it is left alone
  for Retry-After, but a minute at most, then one call tries. As it may be one member of a farm, or
  what is behind one mailbox, it needs two accounts that are told so with no success in between;
  until then it is the account that pauses.
- No answer (no connection, a deadline, 502, 504) five times in a row, from two accounts at least,
  closes the host for a quarter of a minute, and then one call tries.
- ErrorExceededSubscriptionCount concerns a join only, and whoever joins tries that again later.

503s, missing answers and slow ones of two accounts halve how many calls may be under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from apps.exchange.errors import (
    AddressForbidden,
    CredentialsExpired,
    ExchangeError,
    ServerBusy,
    TlsRefused,
    Unreachable,
)
from apps.exchange.interface import (
    NO_EXTRAS,
    Credentials,
    Described,
    Endpoint,
    Extras,
    Item,
    Joined,
    MailServer,
    Product,
    Proof,
    Reach,
)
from apps.exchange.places import Places

log = logging.getLogger(__name__)

# Without an answer in a row; then the host is left alone for so many seconds, and one call tries.
_FAILURES: Final = 5
_OPEN_S: Final = 15.0
# However long one answer wants everybody to stay away.
_HOST_PAUSE_S: Final = 60.0
# Trouble of two accounts within so many seconds is the host's.
_TOGETHER_S: Final = 30.0
# A pause lasts at least so long, doubled with each refusal in a row, up to so long.
_PAUSE_S: Final = 1.0
_LONGEST_OF_OURS_S: Final = 60.0
# A call that had less time than that, having waited for its place, proves nothing by its deadline.
_FAIR_S: Final = 2.0
_ACCOUNTS: Final = 10_000
_HOSTS: Final = 1_000
_EWS_PATH: Final = "ews/exchange.asmx"


@dataclass(slots=True)
class _Pause:
    """An account that is left alone; `times` it was refused in a row."""

    until: float
    times: int


class _Host:
    """What is known of one mail server just now."""

    def __init__(self, name: str, at_once: int) -> None:
        self._name = name
        self.places = Places(at_once)
        self._pauses: OrderedDict[str, _Pause] = OrderedDict()
        # Of the failures in a row, and of any trouble: which accounts had it last, and when.
        self._failures = 0
        self._failed: set[str] = set()
        self._troubled: dict[str, float] = {}
        self._closed_until = self._probed_until = 0.0
        self._is_busy = False

    def check(self, account: str) -> None:
        """Refuse a call that the server should not get; raises what the server would."""
        now = time.monotonic()
        pause = self._pauses.get(account)
        if pause is not None and now < pause.until:
            raise ServerBusy(pause.until - now)
        if not self._closed_until:
            return
        if now >= max(self._closed_until, self._probed_until):
            # One call finds out; the others wait for its outcome, which is there soon.
            self._probed_until = now + _OPEN_S
            return
        if self._is_busy:
            raise ServerBusy(max(self._closed_until - now, _PAUSE_S), of_host=True)
        raise Unreachable("breaker_open")

    def busy(self, account: str, busy: ServerBusy) -> None:
        """The server refused a call because of load."""
        self._pause(account, busy.back_off_s)
        if not busy.of_host:
            self._alive()
            return
        self._fail(account)
        if len(self._failed) > 1:
            self._close(min(max(busy.back_off_s, _PAUSE_S), _HOST_PAUSE_S), is_busy=True)

    def unanswered(self, account: str) -> None:
        """The server gave no answer, though it had time."""
        self._fail(account)
        if self._failures >= _FAILURES and len(self._failed) > 1:
            self._close(_OPEN_S, is_busy=False)

    def answered(self, account: str, took_s: float) -> None:
        """The server answered, be it by a refusal."""
        pause = self._pauses.get(account)
        # What was under way when the pause began says nothing against it.
        if pause is not None and time.monotonic() >= pause.until:
            del self._pauses[account]
        self._alive()
        if not self.places.went_well(took_s):
            self._trouble(account)

    def _alive(self) -> None:
        self._failures = 0
        self._closed_until = self._probed_until = 0.0
        self._failed.clear()

    def _fail(self, account: str) -> None:
        self._failures += 1
        if len(self._failed) < _FAILURES:
            self._failed.add(account)
        self._trouble(account)

    def _close(self, seconds: float, *, is_busy: bool) -> None:
        self._closed_until, self._is_busy = time.monotonic() + seconds, is_busy
        self._probed_until = 0.0
        log.warning("%s is left alone for %.0f s: it %s", self._name, seconds, _WHY[is_busy])

    def _pause(self, account: str, seconds: float) -> None:
        now = time.monotonic()
        before = self._pauses.pop(account, None)
        times = before.times + 1 if before else 1
        ours = min(_PAUSE_S * 2 ** min(times - 1, 10), _LONGEST_OF_OURS_S)
        if len(self._pauses) >= _ACCOUNTS:
            self._pauses.popitem(last=False)
        self._pauses[account] = _Pause(now + max(seconds, ours), times)

    def _trouble(self, account: str) -> None:
        """One account's trouble may be its mailbox's; two accounts' are the server's."""
        now = time.monotonic()
        others = {
            one: at
            for one, at in self._troubled.items()
            if one != account and now - at < _TOGETHER_S
        }
        # One other is enough to know of.
        newest = max(others, key=others.__getitem__, default=None)
        self._troubled = {account: now}
        if newest is not None:
            self._troubled[newest] = others[newest]
            if self.places.halve():
                log.warning(
                    "%s is slow or busy: %d calls at once at most", self._name, self.places.limit
                )


_WHY: Final = {True: "is busy for everyone", False: "does not answer"}


def name_of(endpoint: Endpoint, *, joins: bool = False) -> str:
    """Whose trouble it is when a call there goes badly.

    A phone that joins may name any path of a host: what answers there with 503, or never, says
    nothing of EWS. And one group's proxy that is away says nothing of the host for the others.
    """
    name = endpoint.host
    if joins and endpoint.url.partition("//")[2].partition("/")[2].lower() != _EWS_PATH:
        name = f"{name}, another path"
    proxy = endpoint.proxy
    return name if proxy is None else f"{name} by {proxy.host}:{proxy.port}"


class LimitedServer:
    """A MailServer that calls another one within limits per host.

    Args:
        inner: the mail server client proper.
        at_once: calls under way to one host at most, fewer while it is slow or busy; others wait,
            by turns among the users, and that counts in their deadline.
    """

    def __init__(self, inner: MailServer, at_once: int) -> None:
        self._inner = inner
        self._at_once = at_once
        self._hosts: dict[str, _Host] = {}

    async def discover(
        self, system: Reach, credentials: Credentials, address: str, deadline_s: float
    ) -> str:
        """See `MailServer.discover`. A mail system counts as one host, whichever it is asked at."""
        # With a blank, which is in no host's name: nobody can list this one as a host.
        name = f"Autodiscover of {system.name}"
        async with self._turn(name, credentials, deadline_s, joins=True) as left:
            return await self._inner.discover(system, credentials, address, left)

    async def prove(
        self, endpoint: Endpoint, credentials: Credentials, address: str, deadline_s: float
    ) -> Proof:
        """See `MailServer.prove`."""
        name = name_of(endpoint, joins=True)
        async with self._turn(name, credentials, deadline_s, joins=True) as left:
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
        name = name_of(endpoint, joins=True)
        async with self._turn(name, credentials, deadline_s, joins=True) as left:
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
        async with self._turn(name_of(endpoint), credentials, deadline_s) as left:
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
        async with self._turn(name_of(endpoint), credentials, deadline_s) as left:
            return await self._inner.newest_unread(
                endpoint, credentials, since, limit, left, extras
            )

    def products(self, url: str) -> tuple[Product, ...]:
        """See `MailServer.products`."""
        return self._inner.products(url)

    @asynccontextmanager
    async def _turn(
        self,
        name: str,
        credentials: Credentials,
        deadline_s: float,
        *,
        joins: bool = False,
    ) -> AsyncIterator[float]:
        """Wait for a place at the host; yields the seconds that are left for the call."""
        account, host = credentials.account, self._host(name)
        host.check(account)
        ends = time.monotonic() + deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                await host.places.take(account, joins=joins)
        except TimeoutError:
            raise Unreachable("no_place_in_time") from None
        began = time.monotonic()
        try:
            yield max(0.0, ends - began)
        except ServerBusy as busy:
            host.busy(account, busy)
            raise
        except Unreachable:
            if ends - began >= _FAIR_S:
                host.unanswered(account)
            raise
        except (AddressForbidden, TlsRefused, CredentialsExpired):
            raise
        except ExchangeError:
            host.answered(account, time.monotonic() - began)
            raise
        else:
            host.answered(account, time.monotonic() - began)
        finally:
            host.places.give_back(account, joins=joins)

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _HOSTS:
                self._hosts = {
                    one: kept for one, kept in self._hosts.items() if not kept.places.idle
                }
            host = self._hosts[name] = _Host(name, self._at_once)
        return host
