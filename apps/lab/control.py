"""What the control ports of the pretend push services share."""

from __future__ import annotations

from typing import Any

from aiohttp import web


@web.middleware
async def plain_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """400 and 404 instead of a traceback for what a client got wrong."""
    try:
        found: web.StreamResponse = await handler(request)
    except KeyError:
        return web.json_response({"error": "unknown token or missing member"}, status=404)
    except (ValueError, TypeError) as error:
        return web.json_response({"error": type(error).__name__}, status=400)
    return found


async def open_stream(request: web.Request) -> web.StreamResponse:
    """Begin to answer with server-sent events."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    # A first line, so that the reader knows it is connected before anything arrives.
    await response.write(b": open\n\n")
    return response


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body; raises ValueError unless it is a JSON object."""
    found = await request.json()
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
