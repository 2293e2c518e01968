"""The connections by which one provider identity reaches one APNs environment.

Apple ties a connection to a certificate, or to the team whose tokens it carries, so each identity
has connections of its own, and those of replaced credentials end with what they are carrying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from apps.wire.client import Client, Response, Tls
from apps.wire.errors import DeadlineExceeded, WireError
from apps.wire.posts import Answered, Posts

# Each carries as many streams as the server allows (Apple: about 1,000); more connections are
# opened only when all are full. Apple takes many connections for an attack.
MAX_CONNECTIONS = 4
_MAX_ANSWER_BYTES = 16 * 1024


class Line:
    """A client with what is needed to know when to part with it. Of one event loop."""

    def __init__(self, tls: Tls) -> None:
        self._client = Client(
            max_host_connections=MAX_CONNECTIONS, newcomers_alone=True, together=True
        )
        self._posts = Posts(self._client, tls, max_response_bytes=_MAX_ANSWER_BYTES)
        self._under_way = 0
        self._answered_at = self._used_at = asyncio.get_running_loop().time()
        self._leaving = False
        self._closing: asyncio.Task[None] | None = None
        self.dead = False

    def post(
        self, url: str, headers: Sequence[bytes], body: bytes, deadline_s: float, answered: Answered
    ) -> None:
        """As `Posts.send`.

        `dead` is set when a request ran into its deadline and nothing at all has come back since
        it began: the network forgot the connection and told nobody, and it would go on taking
        requests until TCP gives up, minutes later.
        """
        began = self._used_at = asyncio.get_running_loop().time()
        taken = partial(self._answered, began, answered)
        self._posts.send(url, headers, body, deadline_s, taken)
        self._under_way += 1

    def _answered(self, began: float, answered: Answered, answer: Response | WireError) -> None:
        self._under_way -= 1
        if isinstance(answer, Response):
            self._answered_at = asyncio.get_running_loop().time()
        elif isinstance(answer, DeadlineExceeded):
            self.dead = self.dead or self._answered_at < began
        try:
            answered(answer)
        finally:
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
