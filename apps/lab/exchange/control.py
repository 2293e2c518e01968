"""The lab's remote control: plain HTTP and JSON on loopback, for tests and the live page.

No authentication: it listens on loopback only, wants JSON bodies (which a foreign web page can't
send unasked) and a Host of this machine. Errors are `{"error": code}` with status 400.

- `GET /lab/mailboxes` → `{"mailboxes": [{address, name, aliases, unread, total, subscriptions}]}`
- `GET /lab/mailboxes/{address}/items?folder=inbox` → `{"items": [{item_id, kind, subject,
  from_name, from_address, is_read, received_at}]}`, newest first
- `POST /lab/mailboxes` `{address, name, password, username?, domain?, aliases?}`
- `POST /lab/deliver` `{to, from_name, from_address, subject, body?, kind?, is_read?, folder?,
  age_s?}` → `{item_id}`; `kind` is Message, MeetingRequest, MeetingResponse or MeetingCancellation,
  `age_s` how many seconds ago it was received
- `POST /lab/read` `{item_id, read?}`; `POST /lab/move` `{item_id, folder}` → `{item_id}`;
  `POST /lab/delete` `{item_id}`
- `POST /lab/rights` `{mailbox, user, folder?}`: Reviewer on that folder, FullAccess without one
- `POST /lab/password` `{address, password}`
- `GET /lab/subscriptions` → `{"total", "by_mailbox": {address: count}, "subscriptions": [{id,
  mailbox, owner, delivered, waiting, failures, made_at}], "ended": {reason: count}}`
- `POST /lab/subscriptions/fail` `{subscription_id, code?, bare?}`
- `POST /lab/subscriptions/lose` `{subscription_id}` or `{share, seed?}` → `{"lost": [{id,
  mailbox}]}`: forgotten silently
- `POST /lab/mailboxes/move` `{address, seconds}`: its subscriptions die silently, its user gets
  ErrorMailboxMoveInProgress meanwhile
- `POST /lab/network/drop` `{seconds}`: connections reset and refused, webhooks not reached
- `POST /lab/restart` `{seconds?}`: the same, and all subscriptions forgotten silently
- `GET /lab/counters` → `{"calls": {operation: n}, "calls_per_second": {unix second: n},
  "unauthorized": {address: n}, "lockouts": {address: n}, "refused_while_locked": {address: n},
  "notifications": {OK|Unsubscribe|unanswered: n}, "connections": {total, open, shared}}`; `shared`
  counts connections on which more than one user authenticated
- `POST /lab/faults` `{kind, seconds, back_off_ms?, delay_s?, operations?, address?, code?,
  wrapped?, retry_after?, retry_after_s?}`, `kind` one of busy, error, hang, moving, slow,
  too_many_requests, unavailable (`faults.py`); `DELETE /lab/faults`
- `POST /lab/address` `{address, new, keep_old?}`: a mailbox gets another primary address
- `GET /lab/clock` → `{"now": unix seconds, "scale": n}`: the clock that all `seconds` here go by
- `GET /lab/ca.pem` → the CA certificate
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .errors import EwsError
from .faults import FAULT_KINDS
from .model import KINDS

if TYPE_CHECKING:
    from .server import LabExchange

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def application(lab: LabExchange) -> web.Application:
    """The control API of one lab Exchange."""
    control = _Control(lab)
    app = web.Application(middlewares=[_guard])
    app.add_routes(
        [
            web.get("/lab/mailboxes", control.mailboxes),
            web.post("/lab/mailboxes", control.add_mailbox),
            web.get("/lab/mailboxes/{address}/items", control.items),
            web.post("/lab/deliver", control.deliver),
            web.post("/lab/read", control.read),
            web.post("/lab/move", control.move),
            web.post("/lab/delete", control.delete),
            web.post("/lab/rights", control.rights),
            web.post("/lab/password", control.password),
            web.post("/lab/address", control.address),
            web.get("/lab/subscriptions", control.subscriptions),
            web.post("/lab/subscriptions/fail", control.fail_subscription),
            web.post("/lab/subscriptions/lose", control.lose_subscriptions),
            web.post("/lab/mailboxes/move", control.move_mailbox),
            web.post("/lab/network/drop", control.drop_network),
            web.post("/lab/restart", control.restart),
            web.get("/lab/counters", control.counters),
            web.get("/lab/clock", control.clock),
            web.post("/lab/faults", control.add_fault),
            web.delete("/lab/faults", control.clear_faults),
            web.get("/lab/ca.pem", control.ca),
        ]
    )
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.host.rsplit(":", 1)[0] not in _HOSTS:
        return web.json_response({"error": "wrong_host"}, status=421)
    try:
        return await handler(request)
    except EwsError as error:
        return web.json_response({"error": error.code}, status=400)
    except (JSONDecodeError, KeyError, TypeError, ValueError):
        return web.json_response({"error": "malformed"}, status=400)


async def _json(request: web.Request) -> Json:
    if request.content_type != "application/json":
        raise ValueError("not JSON")
    body = await request.json()
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return body


def _only(body: Mapping[str, Any], *names: str) -> Json:
    """The named members of a body that it has."""
    return {name: body[name] for name in names if name in body}


class _Control:
    def __init__(self, lab: LabExchange) -> None:
        self._lab = lab

    async def mailboxes(self, _: web.Request) -> web.Response:
        return web.json_response({"mailboxes": self._lab.mailboxes()})

    async def add_mailbox(self, request: web.Request) -> web.Response:
        body = await _json(request)
        names = ("address", "name", "password", "username", "domain", "aliases")
        self._lab.add_mailbox(**_only(body, *names))
        return web.json_response({})

    async def items(self, request: web.Request) -> web.Response:
        folder = request.query.get("folder", "inbox")
        return web.json_response({"items": self._lab.items(request.match_info["address"], folder)})

    async def deliver(self, request: web.Request) -> web.Response:
        body = await _json(request)
        if body.get("kind", "Message") not in KINDS:
            raise ValueError("unknown kind")
        names = ["to", "from_name", "from_address", "subject", "body"]
        names += ["kind", "is_read", "folder", "age_s"]
        return web.json_response({"item_id": self._lab.deliver(**_only(body, *names))})

    async def read(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.mark_read(str(body["item_id"]), bool(body.get("read", True)))
        return web.json_response({})

    async def move(self, request: web.Request) -> web.Response:
        body = await _json(request)
        moved = self._lab.move(str(body["item_id"]), str(body["folder"]))
        return web.json_response({"item_id": moved})

    async def delete(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.delete(str(body["item_id"]))
        return web.json_response({})

    async def rights(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.grant(**_only(body, "mailbox", "user", "folder"))
        return web.json_response({})

    async def password(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.set_password(str(body["address"]), str(body["password"]))
        return web.json_response({})

    async def address(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.change_address(**_only(body, "address", "new", "keep_old"))
        return web.json_response({})

    async def subscriptions(self, _: web.Request) -> web.Response:
        return web.json_response(self._lab.subscriptions())

    async def fail_subscription(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.fail_subscription(**_only(body, "subscription_id", "code", "bare"))
        return web.json_response({})

    async def lose_subscriptions(self, request: web.Request) -> web.Response:
        body = await _json(request)
        if ("subscription_id" in body) == ("share" in body):
            raise ValueError("either one or a share")
        lost = self._lab.lose_subscriptions(**_only(body, "subscription_id", "share", "seed"))
        return web.json_response({"lost": lost})

    async def move_mailbox(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.move_mailbox(str(body["address"]), float(body["seconds"]))
        return web.json_response({})

    async def drop_network(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.drop_network(float(body["seconds"]))
        return web.json_response({})

    async def restart(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._lab.restart(float(body.get("seconds", 1.0)))
        return web.json_response({})

    async def clock(self, _: web.Request) -> web.Response:
        clock = self._lab.clock
        return web.json_response({"now": clock.now().timestamp(), "scale": clock.scale})

    async def counters(self, _: web.Request) -> web.Response:
        return web.json_response(self._lab.counters())

    async def add_fault(self, request: web.Request) -> web.Response:
        body = await _json(request)
        if body.get("kind") not in FAULT_KINDS:
            raise ValueError("unknown kind")
        names = ["kind", "seconds", "back_off_ms", "delay_s", "operations", "address"]
        names += ["code", "wrapped", "retry_after", "retry_after_s"]
        self._lab.faults.add(**_only(body, *names))
        return web.json_response({})

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._lab.faults.clear()
        return web.json_response({})

    async def ca(self, _: web.Request) -> web.Response:
        return web.Response(text=self._lab.ca_pem, content_type="application/x-pem-file")
