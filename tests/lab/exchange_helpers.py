"""What the tests of the pretend Exchange share: a webhook of their own, and raw EWS calls."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import aiohttp
from aiohttp import web
from lxml import etree

from apps.lab.exchange import LabExchange

T = "{http://schemas.microsoft.com/exchange/services/2006/types}"
M = "{http://schemas.microsoft.com/exchange/services/2006/messages}"
_ENVELOPE = """<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"
 xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">
<s:Header><t:RequestServerVersion Version="Exchange2010_SP2"/></s:Header>
<s:Body>{}</s:Body></s:Envelope>"""

REPLY = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<SendNotificationResult xmlns="http://schemas.microsoft.com/exchange/services/2006/messages">
<SubscriptionStatus>{}</SubscriptionStatus></SendNotificationResult></s:Body></s:Envelope>"""


@dataclass
class Reply:
    """What an EWS call brought back."""

    status: int
    headers: Any
    body: bytes

    @property
    def xml(self) -> etree._Element:
        return etree.fromstring(self.body)

    @property
    def codes(self) -> list[str | None]:
        """The response codes, in order."""
        return [element.text for element in self.xml.iter(f"{M}ResponseCode")]


async def ews(
    lab: LabExchange,
    body: str,
    user: str = "EXAMPLE\\anna",
    password: str = "anna-lab-1",
    *,
    session: aiohttp.ClientSession | None = None,
) -> Reply:
    """One EWS operation with Basic authentication."""
    authorization = aiohttp.encode_basic_auth(user, password, encoding="utf-8")
    data = _ENVELOPE.format(body).encode()
    own = session or aiohttp.ClientSession()
    try:
        async with own.post(
            lab.url,
            data=data,
            headers={"Content-Type": "text/xml; charset=utf-8", "Authorization": authorization},
            ssl=lab_context(lab.ca_pem),
        ) as response:
            return Reply(response.status, response.headers, await response.read())
    finally:
        if session is None:
            await own.close()


@cache
def lab_context(ca_pem: str) -> ssl.SSLContext:
    """A TLS context that trusts the lab only; one a lab, so that connections can be kept."""
    return ssl.create_default_context(cadata=ca_pem)


def subscribe_request(url: str, frequency: int = 30, folder: str = "inbox") -> str:
    """A Subscribe for push, as ENS sends it."""
    kinds = ("NewMailEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent")
    types = "".join(f"<t:EventType>{kind}</t:EventType>" for kind in kinds)
    return (
        "<m:Subscribe><m:PushSubscriptionRequest>"
        f'<t:FolderIds><t:DistinguishedFolderId Id="{folder}"/></t:FolderIds>'
        f"<t:EventTypes>{types}</t:EventTypes>"
        f"<t:StatusFrequency>{frequency}</t:StatusFrequency><t:URL>{url}</t:URL>"
        "</m:PushSubscriptionRequest></m:Subscribe>"
    )


@dataclass
class Notification:
    """A notification as the webhook took it."""

    at: float
    xml: etree._Element
    raw: bytes

    @property
    def events(self) -> list[tuple[str, etree._Element]]:
        found = self.xml.iterfind(f".//{M}Notification/*")
        return [
            (etree.QName(e).localname.removesuffix("Event"), e)
            for e in found
            if etree.QName(e).localname.endswith("Event")
        ]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def text(self, name: str) -> str | None:
        return self.xml.findtext(f".//{T}{name}")


@dataclass
class Webhook:
    """A webhook on loopback. `answer` says what it replies: a status, or an HTTP status code."""

    answer: Callable[[Notification], str | int] = lambda _: "OK"
    got: list[Notification] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    delay_s: float = 0.0
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        notification = Notification(time.monotonic(), etree.fromstring(raw), raw)
        self.got.append(notification)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay_s)
            said = self.answer(notification)
        finally:
            self.in_flight -= 1
        if isinstance(said, int):
            return web.Response(status=said)
        return web.Response(text=REPLY.format(said), content_type="text/xml")

    async def wait_for(self, count: int, seconds: float = 5.0) -> list[Notification]:
        """Waits until so many notifications have come; fails when they don't."""
        await until(lambda: len(self.got) >= count, seconds)
        return self.got


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        await asyncio.sleep(0.01)
