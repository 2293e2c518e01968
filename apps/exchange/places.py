"""Places for calls at one mail server: as many as it bears, by turns among the users.

How many it bears nobody knows beforehand, and it changes: the number grows by one while calls go
well and is halved when they go badly (AIMD, as in RFC 5681, 3.1), between a few and what the
operator permits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

# Never fewer, or one that is slow for somebody would be slow for all.
_LEAST: Final = 4
# One user's part at most: a mailbox whose calls hang must leave room for the others, and the mail
# programs of the user need some of his EWSMaxConcurrency (10 in Exchange 2010, 27 since):
# https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange
_OF_ONE_ACCOUNT: Final = 4
_PART_OF_ONE_ACCOUNT: Final = 4
# What goes badly at one moment has one cause, and halves once.
_HALVED_ONCE_S: Final = 1.0
# A call is slow when it takes so long, and so many times as long as the quickest of late.
_SLOW_S: Final = 3.0
_SLOW_FACTOR: Final = 8.0
_QUICKEST_OF_S: Final = 300.0


class _Line:
    """Those who wait for a place, by account, in the order of the accounts' turns."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, account: str) -> asyncio.Future[None]:
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(place)
        return place

    def leave(self, account: str, place: asyncio.Future[None]) -> None:
        places = self._waiting.get(account)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[account]

    def next(self, may: Callable[[str], bool]) -> tuple[str, asyncio.Future[None]] | None:
        """Whose turn it is among those who may; the account's next turn is after all others'."""
        # Who has his part already stands aside; of those there are no more than places.
        account = next((one for one in self._waiting if may(one)), None)
        if account is None:
            return None
        places = self._waiting[account]
        place = places.popleft()
        if places:
            self._waiting.move_to_end(account)
        else:
            del self._waiting[account]
        return account, place


class Places:
    """The places at one mail server. For one event loop.

    Mail that has come goes before phones that join, which keep one place in any case.

    Args:
        most: calls under way at most, however well they go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._under_way: Counter[str] = Counter()
        self._taken = 0
        self._joining = 0
        self._mail, self._joins = _Line(), _Line()
        self._halved_at = -math.inf
        self._quickest = _Quickest()

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return int(self._limit)

    @property
    def idle(self) -> bool:
        """Whether nobody has or wants a place."""
        return not (self._taken or self._mail or self._joins)

    async def take(self, account: str, *, joins: bool = False) -> None:
        """Wait for a place; give it back by `give_back`. May be cancelled."""
        if not (self._mail or self._joins) and self._has_room(account):
            self._grant(account, joins=joins)
            return
        line = self._joins if joins else self._mail
        place = line.join(account)
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back(account, joins=joins)
            else:
                line.leave(account, place)
            raise

    def give_back(self, account: str, *, joins: bool = False) -> None:
        """The call is over: the next one's turn."""
        self._taken -= 1
        self._joining -= joins
        self._under_way[account] -= 1
        if not self._under_way[account]:
            del self._under_way[account]
        self._hand_out()

    def went_well(self, took_s: float) -> bool:
        """Take note of a call that was answered; False when it was slow, as under load."""
        slow = self._quickest.is_slow(took_s)
        # One more for each half round of calls, and only where the limit held somebody up.
        if not slow and (self._mail or self._joins or self._taken >= self.limit):
            self._limit = min(float(self._most), self._limit + 2 / self._limit)
        return not slow

    def halve(self) -> bool:
        """The server has trouble: half as many at once. False if that was done just now already."""
        now = time.monotonic()
        fewer = max(float(min(_LEAST, self._most)), self._limit / 2)
        if now - self._halved_at < _HALVED_ONCE_S or fewer == self._limit:
            return False
        self._halved_at, self._limit = now, fewer
        return True

    def _has_room(self, account: str) -> bool:
        own = max(1, min(_OF_ONE_ACCOUNT, self.limit // _PART_OF_ONE_ACCOUNT))
        return self._taken < self.limit and self._under_way[account] < own

    def _grant(self, account: str, *, joins: bool) -> None:
        self._taken += 1
        self._joining += joins
        self._under_way[account] += 1

    def _hand_out(self) -> None:
        """Give free places to those who wait, each account one in its turn."""
        while self._taken < self.limit:
            joins_first = not self._joining
            lines = (self._joins, self._mail) if joins_first else (self._mail, self._joins)
            turn = lines[0].next(self._has_room)
            joins = joins_first
            if turn is None:
                turn = lines[1].next(self._has_room)
                joins = not joins_first
            if turn is None:
                return
            account, place = turn
            if not place.done():
                self._grant(account, joins=joins)
                place.set_result(None)


class _Quickest:
    """The least time that a call took within the last five to ten minutes."""

    def __init__(self) -> None:
        self._before = math.inf
        self._now = math.inf
        self._since = time.monotonic()

    def is_slow(self, took_s: float) -> bool:
        """Take note of a call's time, in seconds, and say whether it was slow beside others."""
        now = time.monotonic()
        if now - self._since > _QUICKEST_OF_S:
            self._before, self._now, self._since = self._now, math.inf, now
        self._now = min(self._now, took_s)
        return took_s > max(_SLOW_S, _SLOW_FACTOR * min(self._now, self._before))
