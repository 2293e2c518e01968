"""`/EWS/Exchange.asmx`: authentication, faults, the operation, the answer."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Sequence
from email.utils import formatdate
from itertools import cycle

from aiohttp import web

from . import soap
from .auth import Doorman
from .clock import Clock
from .errors import EwsError, NotSoap
from .faults import Fault, Faults
from .journal import Journal
from .model import Mailbox
from .operations import OPERATIONS, Call
from .push import PushHub
from .store import Store

PATH = "/EWS/Exchange.asmx"
_XML = "text/xml"
_STATUSES = {"too_many_requests": 429, "unavailable": 503}


class Endpoint:
    """Answers EWS requests of those whom the doorman lets in."""

    def __init__(
        self,
        store: Store,
        hub: PushHub,
        clock: Clock,
        journal: Journal,
        faults: Faults,
        versions: Sequence[soap.ServerVersion],
        doorman: Doorman,
        *,
        max_concurrency: int,
        strict_aliases: bool,
    ) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._journal = journal
        self._faults = faults
        # The members of a farm take turns, as a load balancer without affinity has them.
        self._members = cycle(versions)
        self._doorman = doorman
        self._strict_aliases = strict_aliases
        self._max_concurrency = max_concurrency
        self._under_way: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        caller = self._doorman.admit(request)
        if isinstance(caller, web.Response):
            return caller
        if request.content_type != _XML:
            return web.Response(status=415)
        body = await request.read()
        self._journal.message("request", body)
        member = next(self._members)
        try:
            asked = soap.read_request(body)
            member.check(asked)
        except NotSoap:
            return web.Response(status=400)
        except EwsError as error:
            return self._fault(error, member)
        self._journal.calls[asked.operation] += 1
        self._journal.per_second[int(time.time())] += 1
        return await self._in_turn(caller, asked, member)

    async def _in_turn(
        self, caller: Mailbox, asked: soap.Request, member: soap.ServerVersion
    ) -> web.Response:
        """Within the user's EWSMaxConcurrency, and after what troubles there are."""
        if self._under_way[caller.address] >= self._max_concurrency:
            return self._fault(EwsError("ErrorExceededConnectionCount"), member)
        self._under_way[caller.address] += 1
        try:
            trouble = self._faults.find(asked.operation, caller.address)
            if trouble is not None:
                response = await self._suffer(trouble, member)
                if response is not None:
                    return response
            return await self._answer(caller, asked, member)
        finally:
            self._under_way[caller.address] -= 1

    async def _answer(
        self, caller: Mailbox, asked: soap.Request, member: soap.ServerVersion
    ) -> web.Response:
        operation = OPERATIONS.get(asked.operation)
        if operation is None:
            return self._fault(EwsError("ErrorInvalidOperation"), member)
        if asked.impersonates:
            return self._fault(EwsError("ErrorImpersonateUserDenied"), member)
        call = Call(
            caller, asked, self._store, self._hub, self._clock, member, self._strict_aliases
        )
        try:
            result = operation(call)
            messages = await result if inspect.isawaitable(result) else result
        except (KeyError, ValueError, StopIteration):
            # The lab holds no schema; what a validating server refuses before, fails here.
            return self._fault(EwsError("ErrorSchemaValidation"), member)
        return self._reply(soap.answer(asked.operation, messages, member), 200)

    async def _suffer(self, fault: Fault, member: soap.ServerVersion) -> web.Response | None:
        if fault.kind in _STATUSES:
            return web.Response(status=_STATUSES[fault.kind], headers=_retry_after(fault))
        error = _error_of(fault)
        if error is not None:
            return self._fault(error, member)
        if fault.kind == "slow":
            await self._clock.sleep(fault.delay_s)
            return None
        while self._clock.seconds() < fault.until and self._faults.holds(fault):
            await asyncio.sleep(0.05)
        return None

    def _fault(self, error: EwsError, member: soap.ServerVersion) -> web.Response:
        return self._reply(soap.fault(error, member), 500)

    def _reply(self, body: bytes, status: int) -> web.Response:
        self._journal.message("answer", body)
        return web.Response(body=body, status=status, content_type=_XML, charset="utf-8")


def _error_of(fault: Fault) -> EwsError | None:
    """What a trouble is answered in SOAP; None for one that is no answer in SOAP."""
    if fault.kind == "busy":
        return EwsError("ErrorServerBusy", {"BackOffMilliseconds": str(fault.back_off_ms)})
    if fault.kind == "moving":
        return EwsError("ErrorMailboxMoveInProgress")
    if fault.kind == "error" and fault.wrapped:
        return EwsError("ErrorInternalServerError", {"InnerErrorResponseCode": fault.code})
    return EwsError(fault.code) if fault.kind == "error" else None


def _retry_after(fault: Fault) -> dict[str, str]:
    """The header of RFC 9110, 10.2.3, in the form that the trouble has it, or none."""
    if fault.retry_after == "seconds":
        return {"Retry-After": str(round(fault.retry_after_s))}
    if fault.retry_after == "date":
        return {"Retry-After": formatdate(time.time() + fault.retry_after_s, usegmt=True)}
    return {}
