"""A TLS reverse proxy for EWS that lets a request through by the device that a header names.

    with in_thread(LabGateway(exchange.url, exchange.ca_pem)) as gateway:
        gateway.refuse("phone-1")

or by its control port, plain HTTP and JSON on loopback:

- `POST /lab/refuse` `{device, status?}`: refuse it from now on (403 without another word)
- `DELETE /lab/refuse` `{device}`: let it through again
- `GET /lab/counters` → `{"passed": {device: n}, "refused": {device: n}}`; a request that names no
  device is refused and counted as ""
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from ..ca import LabCa
from ..control import json_object, plain_errors

DEVICE_HEADER: Final = "X-Device-Id"
_MAX_REQUEST: Final = 4 * 1024 * 1024
# Between two neighbours only (RFC 9110, section 7.6.1), or made anew by whoever sends.
_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "host", "content-length", "content-encoding", DEVICE_HEADER.lower()),
    }
)


class LabGateway:
    """A pretend gateway in front of the Exchange at `upstream` (the URL of its Exchange.asmx).

    `upstream_ca` is that one's CA in PEM; the gateway's own certificate comes from a CA made for
    it. `header` is how it knows devices.
    """

    def __init__(self, upstream: str, upstream_ca: str, *, header: str = DEVICE_HEADER) -> None:
        self._directory = tempfile.TemporaryDirectory(
            prefix="ens-lab-gateway-", ignore_cleanup_errors=True
        )
        self._ca = LabCa(Path(self._directory.name))
        self._upstream = upstream
        self._trust = ssl.create_default_context(cadata=upstream_ca)
        self._header = header
        self._refused: dict[str, int] = {}
        self._runners: list[web.AppRunner] = []
        self._session: ClientSession | None = None
        self.passes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.url = ""
        self.control = ""

    @property
    def ca_pem(self) -> str:
        """The CA certificate that clients must trust, PEM."""
        return self._ca.pem

    @property
    def ca_file(self) -> Path:
        """The same as a file."""
        return self._ca.pem_file

    def refuse(self, device: str, status: int = 403) -> None:
        """Answer every request for this device with `status` from now on."""
        self._refused[device] = status

    def admit(self, device: str) -> None:
        """Let it through again."""
        self._refused.pop(device, None)

    async def start(self, host: str = "127.0.0.1", port: int = 0, control_port: int = 0) -> None:
        """Listen for EWS on `host:port` (HTTPS) and for control on loopback; port 0 is any."""
        connector = TCPConnector(ssl=self._trust, limit=0)
        self._session = ClientSession(connector=connector, timeout=ClientTimeout(total=60))
        gate = web.Application(client_max_size=_MAX_REQUEST)
        gate.router.add_route("*", "/{path:.*}", self._handle)
        context = self._ca.issue("gateway").server_context()
        actual = await self._listen(gate, host, port, context)
        path = self._upstream.partition("://")[2].partition("/")[2]
        self.url = f"https://{host}:{actual}/{path}"
        control = web.Application(middlewares=[plain_errors])
        control.router.add_post("/lab/refuse", self._control_refuse)
        control.router.add_delete("/lab/refuse", self._control_admit)
        control.router.add_get("/lab/counters", self._control_counters)
        actual = await self._listen(control, "127.0.0.1", control_port, None)
        self.control = f"http://127.0.0.1:{actual}"

    async def stop(self) -> None:
        """Close everything."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._session is not None:
            await self._session.close()
        self._directory.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _listen(self, app: web.Application, host: str, port: int, context: Any) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        return int(runner.addresses[0][1])

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        device = request.headers.get(self._header, "")
        if not device or device in self._refused:
            self.refusals[device] += 1
            return web.Response(status=self._refused.get(device, 403), text="Not compliant")
        self.passes[device] += 1
        assert self._session is not None
        target = "https://" + self._upstream.split("/")[2] + request.raw_path
        async with self._session.request(
            request.method,
            target,
            data=await request.read(),
            headers=_through(request.headers),
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            return web.Response(status=answer.status, body=body, headers=_through(answer.headers))

    async def _control_refuse(self, request: web.Request) -> web.StreamResponse:
        asked = await json_object(request)
        self.refuse(str(asked["device"]), int(asked.get("status", 403)))
        return web.json_response({})

    async def _control_admit(self, request: web.Request) -> web.StreamResponse:
        self.admit(str((await json_object(request))["device"]))
        return web.json_response({})

    async def _control_counters(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"passed": self.passes, "refused": self.refusals})


def _through(headers: Any) -> list[tuple[str, str]]:
    """What a proxy hands on (repeated headers too)."""
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


@contextmanager
def in_thread(gateway: LabGateway) -> Iterator[LabGateway]:
    """Run a gateway in a thread with a loop of its own, for callers that have none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lab-gateway", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(30)
        yield gateway
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
