"""The connections by which one provider identity reaches one APNs environment.

Apple ties a connection to a certificate, or to the team whose tokens it carries, so each identity
has connections of its own, and those of replaced credentials end with what they are carrying.
"""

from __future__ import annotations

import asyncio

from apps.wire.client import Client, Request, Response
from apps.wire.errors import DeadlineExceeded

# Each carries as many streams as the server allows (Apple: about 1,000); more connections are
# opened only when all are full. Apple takes many connections for an attack.
MAX_CONNECTIONS = 4


class Line:
    """A client with what is needed to know when to part with it. Of one event loop."""

    def __init__(self) -> None:
        self._client = Client(max_host_connections=MAX_CONNECTIONS, newcomers_alone=True)
        self._under_way = 0
        self._answered_at = self._used_at = asyncio.get_running_loop().time()
        self._leaving = False
        self._closing: asyncio.Task[None] | None = None
        self.dead = False

    async def perform(self, request: Request) -> Response:
        """As `Client.perform`.

        `dead` is set when a request ran into its deadline and nothing at all has come back since
        it began: the network forgot the connection and told nobody, and it would go on taking
        requests until TCP gives up, minutes later.
        """
        loop = asyncio.get_running_loop()
        began = self._used_at = loop.time()
        self._under_way += 1
        try:
            response = await self._client.perform(request)
            self._answered_at = loop.time()
            return response
        except DeadlineExceeded:
            self.dead = self.dead or self._answered_at < began
            raise
        finally:
            self._under_way -= 1
            self._close_if_done()

    def idle_for(self) -> float:
        """Seconds since it was last asked for anything; 0 while something is under way."""
        return 0.0 if self._under_way else asyncio.get_running_loop().time() - self._used_at

    def leave(self) -> None:
        """Close the connections as soon as nothing is under way on them."""
        self._leaving = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._leaving and not self._under_way and self._closing is None:
            self._closing = asyncio.ensure_future(self._client.close())
