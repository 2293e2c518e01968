"""`/EWS/Exchange.asmx`: authentication, faults, the operation, the answer."""

from __future__ import annotations

import asyncio
import inspect
import time

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


class Endpoint:
    """Answers EWS requests of those whom the doorman lets in."""

    def __init__(
        self,
        store: Store,
        hub: PushHub,
        clock: Clock,
        journal: Journal,
        faults: Faults,
        version: soap.ServerVersion,
        doorman: Doorman,
    ) -> None:
        self._store = store
        self._hub = hub
        self._clock = clock
        self._journal = journal
        self._faults = faults
        self._version = version
        self._doorman = doorman

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        caller = self._doorman.admit(request)
        if isinstance(caller, web.Response):
            return caller
        if request.content_type != _XML:
            return web.Response(status=415)
        body = await request.read()
        self._journal.message("request", body)
        try:
            asked = soap.read_request(body)
        except NotSoap:
            return web.Response(status=400)
        except EwsError as error:
            return self._fault(error)
        self._journal.calls[asked.operation] += 1
        self._journal.per_second[int(time.time())] += 1
        trouble = self._faults.find(asked.operation, caller.address)
        if trouble is not None:
            response = await self._suffer(trouble)
            if response is not None:
                return response
        return await self._answer(caller, asked)

    async def _answer(self, caller: Mailbox, asked: soap.Request) -> web.Response:
        operation = OPERATIONS.get(asked.operation)
        if operation is None:
            return self._fault(EwsError("ErrorInvalidOperation"))
        if asked.impersonates:
            return self._fault(EwsError("ErrorImpersonateUserDenied"))
        call = Call(caller, asked, self._store, self._hub, self._clock, self._version)
        try:
            result = operation(call)
            messages = await result if inspect.isawaitable(result) else result
        except (KeyError, ValueError, StopIteration):
            # The lab holds no schema; what a validating server refuses before, fails here.
            return self._fault(EwsError("ErrorSchemaValidation"))
        return self._reply(soap.answer(asked.operation, messages, self._version), 200)

    async def _suffer(self, fault: Fault) -> web.Response | None:
        if fault.kind == "busy":
            values = {"BackOffMilliseconds": str(fault.back_off_ms)}
            return self._fault(EwsError("ErrorServerBusy", values))
        if fault.kind == "moving":
            return self._fault(EwsError("ErrorMailboxMoveInProgress"))
        if fault.kind == "unavailable":
            return web.Response(status=503)
        if fault.kind == "slow":
            await self._clock.sleep(fault.delay_s)
            return None
        while self._clock.seconds() < fault.until and self._faults.holds(fault):
            await asyncio.sleep(0.05)
        return None

    def _fault(self, error: EwsError) -> web.Response:
        return self._reply(soap.fault(error, self._version), 500)

    def _reply(self, body: bytes, status: int) -> web.Response:
        self._journal.message("answer", body)
        return web.Response(body=body, status=status, content_type=_XML, charset="utf-8")
