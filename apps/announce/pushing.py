"""Sends pushes to the relay, many a call, however many mailboxes they come from.

The relay answers line by line: each push's result reaches whoever waits for it at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from apps import request_id
from apps.cns.answer import Result
from apps.cns.client import CnsClient, Push, Service
from apps.cns.errors import CnsRefused, CnsUnavailable
from apps.history import counters, names

log = logging.getLogger(__name__)

# A push waits this long for others to share its call, in seconds.
_GATHER_S: Final = 0.01
# Of a call that a killed relay did not answer, APNs may have taken all: its size bounds what is
# repeated then.
_BATCH: Final = 50
_AGAIN_S: Final = 5.0
_OURS_TO_FIX_S: Final = 60.0


class Pusher:
    """Collects pushes to one push service and sends them in batches.

    Each caller gets its own push's result.
    """

    def __init__(self, cns: CnsClient, service: Service = "apns") -> None:
        self._cns = cns
        self._service = service
        self._waiting: list[tuple[Push, asyncio.Future[Result]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def push(self, push: Push) -> Result:
        """Send one push; a relay that is away or refuses us is a result to try again."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((push, future))
        if len(self._waiting) >= _BATCH:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._send)
        return await future

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        if batch:
            call = asyncio.ensure_future(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, batch: list[tuple[Push, asyncio.Future[Result]]]) -> None:
        again, reason = _AGAIN_S, "relay_did_not_answer_for_it"
        waiting = {push.id: future for push, future in batch}

        def tell(result: Result) -> None:
            future = waiting.pop(result.id)
            if not future.done():
                future.set_result(result)

        request_id.work_on(push.request_id for push, _ in batch)
        try:
            await self._cns.send(self._service, [push for push, _ in batch], tell)
            counters.count(names.RELAY_CALLS, label="answered")
        except CnsUnavailable as error:
            again, reason = max(error.retry_after_s, 1.0), error.code
            counters.count(names.RELAY_CALLS, label="unavailable")
            log.warning("the relay is unavailable: %s", error.code)
        except CnsRefused as error:
            again, reason = _OURS_TO_FIX_S, error.code
            counters.count(names.RELAY_CALLS, label="refused")
            log.error("the relay refuses us: %s", error.code)
        finally:
            for push_id in list(waiting):
                tell(Result(push_id, "retry", reason, dead_since=None, retry_after_s=again))
