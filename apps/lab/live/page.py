"""The live page's little web server: one page, one stream of states, two things to do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from apps.lab.live.world import SUGGESTIONS, World

STATIC = Path(__file__).with_name("static")
LONGEST = {"sender": 60, "subject": 200, "id": 1000}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make(world: World, port: int) -> web.Application:
    """The page as an application that is to be served on loopback at `port`."""
    own = {f"127.0.0.1:{port}", f"localhost:{port}"}

    @web.middleware
    async def ours_only(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page of another site, opened in the same browser, must not write mails here.
        origin = request.headers.get("Origin")
        foreign = origin is not None and origin.removeprefix("http://") not in own
        if request.host not in own or foreign:
            raise web.HTTPForbidden(text="this page answers to its own address only")
        return await handler(request)

    async def give_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    page = _Page(world)
    app = web.Application(middlewares=[ours_only], client_max_size=8192)
    app.on_response_prepare.append(give_headers)
    app.add_routes(
        [
            web.get("/", page.index),
            web.get("/events", page.events),
            web.post("/mails", page.send),
            web.post("/read", page.mark_read),
            web.static("/static", STATIC),
        ]
    )
    return app


class _Page:
    def __init__(self, world: World) -> None:
        self._world = world

    async def index(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event("hello", SUGGESTIONS))
        try:
            async for state in self._world.states():
                await response.write(_event("state", state))
        except ConnectionResetError:
            pass  # the reader has gone
        return response

    async def send(self, request: web.Request) -> web.Response:
        sender, subject = await _texts(request, "sender", "subject")
        try:
            await self._world.send(sender, subject)
        except OSError:
            raise web.HTTPBadGateway(text="Exchange did not take the mail") from None
        return web.Response(status=204)

    async def mark_read(self, request: web.Request) -> web.Response:
        (mail_id,) = await _texts(request, "id")
        try:
            await self._world.mark_read(mail_id)
        except KeyError:
            raise web.HTTPNotFound(text="no such mail") from None
        except OSError:
            raise web.HTTPBadGateway(text="Exchange did not answer") from None
        return web.Response(status=204)


async def _texts(request: web.Request, *names: str) -> list[str]:
    """The members of a JSON body, each one line of text within its length."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType()
    try:
        body = await request.json()
        found = [str(body[name]).strip() for name in names]
    except (ValueError, KeyError, TypeError):
        raise web.HTTPBadRequest(text=f"a JSON object with {', '.join(names)}") from None
    for name, text in zip(names, found, strict=True):
        if not 0 < len(text) <= LONGEST[name] or not text.isprintable():
            raise web.HTTPBadRequest(text=f"{name}: one line, at most {LONGEST[name]} characters")
    return found


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
