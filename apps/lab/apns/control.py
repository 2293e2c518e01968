"""The control port: what a pretend phone and the live page ask of the pretend APNs, as JSON.

- `POST /tokens` `{"topic", "token"?}` → `{"token"}`: the app registers for pushes
- `DELETE /tokens/<token>` → 204: the app was removed; pushes get 410
- `GET /tokens/<token>/pushes?after=0&wait_s=0` → `{"pushes": […], "shown": […], "badge": 0}`,
  at the latest after `wait_s` (at most 60) seconds; every push has a rising `number`
- `GET /tokens/<token>/stream?after=0`: the same pushes as server-sent events, one JSON object each
- `GET /stream`: the pushes of all tokens from the start on, each with its `token`
- `POST /keys` `{"key_id", "team_id", "public_pem", "topics"}` → 204
- `POST /faults` (a `Fault` as JSON) → 204; `DELETE /faults` → 204
- `GET /answers` → `{"200": 12, "410 Unregistered": 1}`
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web

from apps.lab.apns.faults import Fault
from apps.lab.control import json_object, open_stream, plain_errors

if TYPE_CHECKING:
    from apps.lab.apns.server import LabApns

_LONGEST_WAIT_S = 60.0


class Control:
    """The plain-HTTP server on loopback; `port` is known once it has started."""

    def __init__(self, apns: LabApns) -> None:
        self._apns = apns
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
                web.get("/tokens/{token}/stream", self._stream),
                web.get("/stream", self._stream_all),
                web.post("/keys", self._add_key),
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
        token = self._apns.register(str(asked["topic"]), str(asked.get("token", "")))
        return web.json_response({"token": token})

    async def _unregister(self, request: web.Request) -> web.Response:
        self._apns.unregister(request.match_info["token"])
        return web.Response(status=204)

    async def _pushes(self, request: web.Request) -> web.Response:
        token, after = _token_and_after(request)
        phones = self._apns.phones
        found = phones.arrivals(token, after)
        wait_s = min(float(request.query.get("wait_s", "0")), _LONGEST_WAIT_S)
        if not found and wait_s > 0:
            found = await phones.wait(token, after, wait_s)
        screen = phones.screen(token)
        return web.json_response(
            {
                "pushes": [arrival.as_json() for arrival in found],
                "shown": [arrival.as_json() for arrival in screen.shown],
                "badge": screen.badge,
            }
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        token, after = _token_and_after(request)
        self._apns.phones.screen(token)  # an unknown token is refused before the stream begins
        response = await open_stream(request)
        try:
            async for arrival in self._apns.phones.stream(token, after):
                event = f"id: {arrival.number}\ndata: {json.dumps(arrival.as_json())}\n\n"
                await response.write(event.encode())
        except (ConnectionResetError, asyncio.CancelledError):
            pass  # the reader has gone
        return response

    async def _stream_all(self, request: web.Request) -> web.StreamResponse:
        response = await open_stream(request)
        try:
            async for number, batch in self._apns.phones.stream_all():
                lines = [json.dumps(a.as_json() | {"token": a.push.token}) for a in batch]
                event = "".join(f"data: {line}\n\n" for line in lines)
                await response.write(f"id: {number}\n{event}".encode())
        except (ConnectionResetError, asyncio.CancelledError):
            pass  # the reader has gone
        return response

    async def _add_key(self, request: web.Request) -> web.Response:
        asked = await json_object(request)
        self._apns.add_key(
            str(asked["key_id"]), str(asked["team_id"]), str(asked["public_pem"]), asked["topics"]
        )
        return web.Response(status=204)

    async def _order_fault(self, request: web.Request) -> web.Response:
        self._apns.faults.order(Fault(**await json_object(request)))
        return web.Response(status=204)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._apns.faults.clear()
        return web.Response(status=204)

    async def _answers(self, _request: web.Request) -> web.Response:
        counted = {
            f"{status} {reason}".strip(): times
            for (status, reason), times in self._apns.answers.items()
        }
        return web.json_response(counted)


def _token_and_after(request: web.Request) -> tuple[str, int]:
    return request.match_info["token"].lower(), int(request.query.get("after", "0"))
