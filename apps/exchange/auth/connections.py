"""The connections that are logged in: one a user and server, closed when idle, of a limited number.

Which user a connection belongs to is not looked up but given by construction: its client is known
under endpoint and credentials together, and used for requests with exactly these.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from apps.exchange.auth.connection import Hints, UserConnection
from apps.exchange.credentials import Credentials
from apps.exchange.interface import Endpoint
from apps.wire.client import Client

# Each takes 200 KiB and three descriptors: its socket, and the two that wake its client. A service
# has 1,024 of these by default, and on Windows select() knows 512 sockets in all.
MOST: Final = 100 if sys.platform == "win32" else 200
# As long as IIS keeps an idle connection.
IDLE_S: Final = 120.0

_Key = tuple[Endpoint, Credentials]


@dataclass(slots=True)
class _Held:
    connection: UserConnection
    in_use: int = 0
    since: float = 0.0


class UserConnections:
    """Connections by user and server.

    Args:
        open_client: makes a client for an endpoint, with one connection.
        most: open at once at most; who comes then waits for one that is idle to be closed.
        idle_s: after so many seconds without a request a connection is closed.
    """

    def __init__(
        self, open_client: Callable[[Endpoint], Client], most: int = MOST, idle_s: float = IDLE_S
    ) -> None:
        self._open_client = open_client
        self._most = most
        self._idle_s = idle_s
        # Least recently used first.
        self._held: OrderedDict[_Key, _Held] = OrderedDict()
        self._hints: dict[Endpoint, Hints] = {}
        self._places = asyncio.Semaphore(most)
        self._closing: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def of(
        self, endpoint: Endpoint, credentials: Credentials
    ) -> AsyncIterator[UserConnection]:
        """The connection of a user to a server, kept open at least meanwhile."""
        loop = asyncio.get_running_loop()
        key = (endpoint, credentials)
        async with self._places:
            held = self._held.get(key)
            if held is None:
                self._make_room()
                held = _Held(self._open(*key))
                self._held[key] = held
            self._held.move_to_end(key)
            held.in_use += 1
            try:
                yield held.connection
            finally:
                held.in_use -= 1
                held.since = loop.time()
                if self._sweep is None:
                    self._sweep = loop.call_later(self._idle_s, self._close_idle)

    async def close(self) -> None:
        """Close them all; calls under way fail as Unreachable."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._held:
            self._begin_close(next(iter(self._held)))
        await asyncio.gather(*self._closing)

    def _open(self, endpoint: Endpoint, credentials: Credentials) -> UserConnection:
        if len(self._hints) > self._most:
            self._hints.clear()
        hints = self._hints.setdefault(endpoint, Hints())
        return UserConnection(self._open_client(endpoint), credentials, hints)

    def _make_room(self) -> None:
        if len(self._held) >= self._most:
            # There is an idle one: at most so many are in use, and we are one of them.
            self._begin_close(next(key for key, held in self._held.items() if not held.in_use))

    def _close_idle(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        before = loop.time() - self._idle_s
        idle = [key for key, held in self._held.items() if not held.in_use]
        for key in idle:
            if self._held[key].since <= before:
                self._begin_close(key)
        if self._held:
            self._sweep = loop.call_later(self._idle_s / 4, self._close_idle)

    def _begin_close(self, key: _Key) -> None:
        task = asyncio.get_running_loop().create_task(self._held.pop(key).connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
