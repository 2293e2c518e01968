"""Autodiscover at the pretend Exchange: SOAP and POX, and every way to lead a client astray.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/autodiscover-web-service-reference-for-exchange
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from xml.sax.saxutils import escape

from aiohttp import web

from . import soap
from .errors import NotSoap
from .model import Mailbox
from .store import Store

SOAP_PATH = "/autodiscover/autodiscover.svc"
POX_PATH = "/autodiscover/autodiscover.xml"
EWS_PATH = "/EWS/Exchange.asmx"

_SERVICE = "http://schemas.microsoft.com/exchange/2010/Autodiscover"
_SCHEMAS = "http://schemas.microsoft.com/exchange/autodiscover"
_XML = "text/xml"

Protocol = Literal["soap", "pox"]
DetourKind = Literal[
    "redirect_url", "redirect_address", "moved", "error", "busy", "missing", "slow", "raw"
]


@dataclass(frozen=True, slots=True)
class Detour:
    """What is answered instead of the settings.

    `redirect_url` and `redirect_address` lead to `target` by the protocol's own means, `moved` by
    HTTP's 302. `error` answers that there is no such user, `busy` ServerBusy (SOAP) or HTTP 503,
    `missing` HTTP 404, `slow` the right thing `delay_s` real seconds later, `raw` whatever stands
    in `target`. It meets requests for `address` at `host` (as the client calls it) in `protocol`,
    each of these only if given.
    """

    kind: DetourKind
    target: str = field(default="", repr=False)
    address: str = field(default="", repr=False)
    host: str = ""
    protocol: Protocol | None = None
    delay_s: float = 0.0

    def meets(self, protocol: Protocol, host: str, address: str) -> bool:
        """Whether a request is led astray by it."""
        return (
            (self.protocol is None or self.protocol == protocol)
            and (not self.host or self.host == host)
            and (not self.address or self.address.lower() == address.lower())
        )


class Autodiscover:
    """Answers Autodiscover requests of users that `admit` lets in.

    `detours` are looked at in their order. `asked` counts requests that were let in, by protocol
    and host; `ews_url` is told instead of the one on the host that was asked.
    """

    def __init__(
        self, store: Store, admit: Callable[[web.Request], Mailbox | web.Response]
    ) -> None:
        self._store = store
        self._admit = admit
        self.detours: list[Detour] = []
        self.asked: Counter[str] = Counter()
        self.ews_url = ""

    async def soap(self, request: web.Request) -> web.StreamResponse:
        """GetUserSettings for one user."""
        return await self._handle(request, "soap")

    async def pox(self, request: web.Request) -> web.StreamResponse:
        """The same in plain old XML."""
        return await self._handle(request, "pox")

    async def _handle(self, request: web.Request, protocol: Protocol) -> web.StreamResponse:
        caller = self._admit(request)
        if isinstance(caller, web.Response):
            return caller
        if request.content_type != _XML:
            return web.Response(status=415)
        try:
            address = _address(await request.read(), protocol)
        except NotSoap:
            return web.Response(status=400)
        self.asked[f"{protocol} {request.host}"] += 1
        detour = next((d for d in self.detours if d.meets(protocol, request.host, address)), None)
        if detour is not None and detour.kind != "slow":
            return _astray(detour, protocol)
        if detour is not None:
            await asyncio.sleep(detour.delay_s)
        if self._store.local(address) is None:
            return _astray(Detour("error"), protocol)
        url = self.ews_url or f"https://{request.host}{EWS_PATH}"
        return _xml(_settings_soap(url) if protocol == "soap" else _settings_pox(url))


def redirector(location: str) -> web.Application:
    """A plain web server at which Autodiscover only leads elsewhere."""

    async def away(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    app = web.Application()
    app.router.add_get(POX_PATH, away)
    return app


def _address(data: bytes, protocol: Protocol) -> str:
    root = soap.parse(data)
    path = f"{{{_SERVICE}}}Mailbox"
    if protocol == "pox":
        path = f"{{{_SCHEMAS}/outlook/requestschema/2006}}EMailAddress"
    found = next(root.iter(path), None)
    if found is None or not found.text:
        raise NotSoap
    return str(found.text)


def _astray(detour: Detour, protocol: Protocol) -> web.Response:
    if detour.kind == "moved":
        return web.Response(status=302, headers={"Location": detour.target})
    if detour.kind == "missing":
        return web.Response(status=404)
    if detour.kind == "raw":
        return _xml(detour.target)
    if detour.kind == "busy" and protocol == "pox":
        return web.Response(status=503)
    if protocol == "soap":
        codes = {
            "redirect_url": "RedirectUrl",
            "redirect_address": "RedirectAddress",
            "error": "InvalidUser",
            "busy": "ServerBusy",
        }
        return _xml(_user_response(codes[detour.kind], detour.target, ""))
    if detour.kind == "error":
        return _xml(_pox_error("500", "The e-mail address cannot be found."))
    names = {"redirect_url": "RedirectUrl", "redirect_address": "RedirectAddr"}
    name = names[detour.kind]
    action = name[0].lower() + name[1:]
    return _xml(_account(f"<Action>{action}</Action><{name}>{escape(detour.target)}</{name}>"))


def _settings_soap(url: str) -> str:
    settings = "".join(
        f'<UserSetting i:type="StringSetting"><Name>{name}</Name>'
        f"<Value>{escape(url)}</Value></UserSetting>"
        for name in ("InternalEwsUrl", "ExternalEwsUrl")
    )
    return _user_response("NoError", "", settings)


def _user_response(code: str, target: str, settings: str) -> str:
    redirect = f"<RedirectTarget>{escape(target)}</RedirectTarget>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{soap.SOAP}" '
        'xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header>'
        f'<a:Action s:mustUnderstand="1">{_SERVICE}/Autodiscover/GetUserSettingsResponse</a:Action>'
        f'<h:ServerVersionInfo xmlns:h="{_SERVICE}"><h:MajorVersion>15</h:MajorVersion>'
        "<h:MinorVersion>2</h:MinorVersion><h:MajorBuildNumber>1544</h:MajorBuildNumber>"
        "<h:MinorBuildNumber>4</h:MinorBuildNumber><h:Version>Exchange2015</h:Version>"
        "</h:ServerVersionInfo></s:Header><s:Body>"
        f'<GetUserSettingsResponseMessage xmlns="{_SERVICE}">'
        f'<Response xmlns:i="{soap.XSI}"><ErrorCode>NoError</ErrorCode><ErrorMessage/>'
        f"<UserResponses><UserResponse><ErrorCode>{code}</ErrorCode>"
        f"<ErrorMessage>{code}.</ErrorMessage>{redirect if target else ''}"
        f"<UserSettingErrors/><UserSettings>{settings}</UserSettings></UserResponse></UserResponses>"
        "</Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>"
    )


def _settings_pox(url: str) -> str:
    protocols = "".join(
        f"<Protocol><Type>{kind}</Type><Server>exchange.lab.example</Server>"
        f"<ASUrl>{escape(url)}</ASUrl><EwsUrl>{escape(url)}</EwsUrl></Protocol>"
        for kind in ("EXCH", "EXPR")
    )
    return _account(f"<AccountType>email</AccountType><Action>settings</Action>{protocols}")


def _account(content: str) -> str:
    return _pox(
        f'<Response xmlns="{_SCHEMAS}/outlook/responseschema/2006a">'
        f"<Account>{content}</Account></Response>"
    )


def _pox_error(code: str, message: str) -> str:
    return _pox(
        f'<Response><Error Time="10:00:00.0000000" Id="1"><ErrorCode>{code}</ErrorCode>'
        f"<Message>{message}</Message><DebugData/></Error></Response>"
    )


def _pox(content: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<Autodiscover xmlns="{_SCHEMAS}/responseschema/2006">{content}</Autodiscover>'
    )


def _xml(body: str) -> web.Response:
    return web.Response(body=body.encode(), content_type=_XML, charset="utf-8")
