"""The control port: what a pretend phone and tests ask of the pretend FCM, as JSON.

- `POST /tokens` `{"package", "project_id", "token"?}` → `{"token"}`: the app registers
- `DELETE /tokens/<token>` → 204: the app was removed; messages get UNREGISTERED
- `GET /tokens/<token>/pushes?after=0&wait_s=0` → `{"pushes": […]}`, at the latest after `wait_s`
  (at most 60) seconds; every message has a rising `number`
- `GET /stream`: the messages of all tokens from the start on, each with its `token`
- `POST /accounts` `{"project_id", "client_email", "public_pem"}` → 204
- `DELETE /access_tokens` → 204: all that were given are void
- `POST /faults` (an `FcmFault` as JSON) → 204; `DELETE /faults` → 204
- `GET /answers` → `{"200": 12, "404 UNREGISTERED": 1}`
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web

from apps.lab.control import json_object, open_stream, plain_errors
from apps.lab.fcm.answers import FcmFault

if TYPE_CHECKING:
    from apps.lab.fcm.server import LabFcm

_LONGEST_WAIT_S = 60.0


class Control:
    """The plain-HTTP server on loopback; `port` is known once it has started."""

    def __init__(self, fcm: LabFcm) -> None:
        self._fcm = fcm
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on loopback; port 0 takes a free one."""
        app = web.Application(middlewares=[plain_errors])
        app.add_routes(
            [
                web.post("/tokens", self._register),
                web.delete("/tokens/{token}", self._unregister),
                web.get("/tokens/{token}/pushes", self._pushes),
                web.get("/stream", self._stream),
                web.post("/accounts", self._add_account),
                web.delete("/access_tokens", self._revoke_tokens),
                web.post("/faults", self._order_fault),
                web.delete("/faults", self._clear_faults),
                web.get("/answers", self._answers),
            ]
        )
        # Streams never end by themselves, so shutting down must not wait for them.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and every stream."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _register(self, request: web.Request) -> web.Response:
        asked = await json_object(request)
        package, project_id = str(asked["package"]), str(asked["project_id"])
        token = self._fcm.register(package, project_id, str(asked.get("token", "")))
        return web.json_response({"token": token})

    async def _unregister(self, request: web.Request) -> web.Response:
        self._fcm.phones.unregister(request.match_info["token"])
        return web.Response(status=204)

    async def _pushes(self, request: web.Request) -> web.Response:
        token, after = request.match_info["token"], int(request.query.get("after", "0"))
        wait_s = min(float(request.query.get("wait_s", "0")), _LONGEST_WAIT_S)
        found = self._fcm.phones.arrivals(token, after)
        if not found and wait_s > 0:
            found = await self._fcm.phones.wait(token, after, wait_s)
        return web.json_response({"pushes": [arrival.as_json() for arrival in found]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = await open_stream(request)
        try:
            async for batch in self._fcm.phones.stream_all():
                lines = [json.dumps(a.as_json() | {"token": a.message.token}) for a in batch]
                await response.write("".join(f"data: {line}\n\n" for line in lines).encode())
        except (ConnectionResetError, asyncio.CancelledError):
            pass  # the reader has gone
        return response

    async def _add_account(self, request: web.Request) -> web.Response:
        asked = await json_object(request)
        self._fcm.accounts.add(
            str(asked["project_id"]), str(asked["client_email"]), str(asked["public_pem"])
        )
        return web.Response(status=204)

    async def _revoke_tokens(self, _request: web.Request) -> web.Response:
        self._fcm.accounts.revoke_tokens()
        return web.Response(status=204)

    async def _order_fault(self, request: web.Request) -> web.Response:
        self._fcm.order(FcmFault(**await json_object(request)))
        return web.Response(status=204)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._fcm.clear_faults()
        return web.Response(status=204)

    async def _answers(self, _request: web.Request) -> web.Response:
        counted = {
            f"{status} {reason}".strip(): times
            for (status, reason), times in self._fcm.answers.items()
        }
        return web.json_response(counted)
