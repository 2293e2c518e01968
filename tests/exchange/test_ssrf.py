"""No errands for strangers: whatever address is named, nothing on this machine hears of it.

The good Exchange listens on 127.0.0.2, the one address that the guard lets pass here; the canary
at 127.0.0.1 and ::1. Nothing here asks a list of allowed hosts, which stands before all this
(tests/api/test_ssrf.py): the guard alone must do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pycurl
import pytest

from apps.exchange import guard
from apps.exchange.errors import AddressForbidden, ExchangeError, NotEws, ProxyTrouble
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint
from apps.wire import client as wire
from apps.wire.proxy import Proxy
from tests.exchange import answers
from tests.exchange.hostile import HOSTILE_URLS, Canary, canary
from tests.wire.servers import Authority, Seen, Site, http_answer, http_site
from tests.wire.tinyproxy import connects, tinyproxy

ANNA = Credentials("basic", "EXAMPLE\\anna", "secret")
GOOD = "127.0.0.2"
ONLY_GOOD = (ip_network(f"{GOOD}/32"),)
# How long what must not come is given to come, in seconds.
_SOON_S = 0.05
PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@pytest.fixture
def bird() -> Iterator[Canary]:
    with canary() as listening:
        yield listening


async def call(url: str, ca_pem: str = "", proxy: Proxy | None = None) -> ExchangeError | None:
    """What came of a call with credentials; None when an Exchange answered."""
    server = EwsServer("0.1.0")
    endpoint = Endpoint(url, ca_pem, exceptions=ONLY_GOOD, proxy=proxy)
    try:
        await server.prove(endpoint, ANNA, "anna@example.com", 3)
    except ExchangeError as error:
        return error
    finally:
        await server.close()
    return None


@asynccontextmanager
async def exchange(authority: Authority, answer: bytes | None = None) -> AsyncIterator[Site]:
    """A good Exchange, or a server on a permitted address that answers whatever the test says."""
    same = answers.response("GetFolder", answers.folder("A"), answers.folder("A"))

    async def serve(seen: Seen) -> bytes:
        if not seen.body:  # who asks first what is offered
            return http_answer(401, b"", WWW_Authenticate="Basic")
        return answer or http_answer(200, same, Content_Type="text/xml")

    context, _ = authority.context("localhost", GOOD, "mail.example.com")
    async with http_site(serve, context, GOOD) as site:
        yield site


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE_URLS)) == len(HOSTILE_URLS) >= 30


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_a_hostile_address_is_not_called(bird: Canary, url: str) -> None:
    error = await call(url.replace("{port}", str(bird.port)))
    await asyncio.sleep(_SOON_S)
    assert bird.calls == 0
    # Named for what it is, or nothing that ENS reads as an address at all, or no such name.
    assert isinstance(error, ExchangeError) and error.code in (
        *("address_forbidden", "not_ews", "unreachable"),
    )
    if "example" not in url and "%" not in url and url.startswith("https://127."):
        assert isinstance(error, AddressForbidden | NotEws)


async def test_without_the_guard_the_canary_hears_of_it(
    bird: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These tests can fail: many of the addresses do lead here."""
    monkeypatch.setattr(guard, "check", lambda *_address, **_rules: None)
    heard = set()
    for url in bird.urls():
        before = bird.calls
        if "169.254" in url or "100.100" in url or "168.63" in url or "//10." in url:
            continue
        if any(private in url for private in ("192.168", "[f", "64:ff9b", "2002:", "2001:")):
            continue
        await call(url)
        await asyncio.sleep(_SOON_S)
        if bird.calls > before:
            heard.add(url)
    assert len(heard) >= 15, heard


async def test_the_good_exchange_is_called(authority: Authority) -> None:
    async with exchange(authority) as site:
        assert await call(site.url("/EWS/Exchange.asmx", host=GOOD), authority.pem) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/EWS/Exchange.asmx",
        "http://127.0.0.1:{port}/",
        "//[::1]:{port}/",
        "https://localhost:{port}/",
        "gopher://127.0.0.1:{port}/_x",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_is_not_followed(
    authority: Authority, bird: Canary, status: int, location: str
) -> None:
    where = location.replace("{port}", str(bird.port))
    refresh = http_answer(status, b"", Location=where, Refresh=f"0; url={where}", Alt_Svc=where)
    async with exchange(authority, refresh) as site:
        error = await call(site.url("/EWS/Exchange.asmx", host=GOOD), authority.pem)
    assert isinstance(error, NotEws) and bird.calls == 0


class Resolver:
    """Hands libcurl what DNS says at that moment: each request takes the next answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int, *says: str) -> None:
        self._says = list(says)
        self._place = f"mail.example.com:{port}"
        prepare = wire._prepare

        def prepared(handle: Any, *rest: Any) -> None:
            prepare(handle, *rest)
            said = self._says.pop(0) if len(self._says) > 1 else self._says[0]
            handle.setopt(pycurl.RESOLVE, [f"-{self._place}", f"{self._place}:{said}"])

        monkeypatch.setattr(wire, "_prepare", prepared)


async def test_dns_that_changes_its_answer(
    authority: Authority, bird: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name leads to a permitted address first, and to the canary at the next connection."""
    server = EwsServer("0.1.0")
    async with exchange(authority) as site:
        # Canary and Exchange at one port: only the address differs.
        with canary(site.port) as other:
            Resolver(monkeypatch, site.port, *[GOOD] * 3, "127.0.0.1")
            endpoint = Endpoint(
                site.url("/EWS/Exchange.asmx", host="mail.example.com"),
                authority.pem,
                exceptions=ONLY_GOOD,
            )
            await server.prove(endpoint, ANNA, "anna@example.com", 3)
            await server.close()
            server = EwsServer("0.1.0")
            Resolver(monkeypatch, site.port, "127.0.0.1")
            with pytest.raises(AddressForbidden):
                await server.prove(endpoint, ANNA, "anna@example.com", 3)
            # Several addresses at once: only the permitted one is connected.
            Resolver(monkeypatch, site.port, f"127.0.0.1,{GOOD}")
            await server.prove(endpoint, ANNA, "anna@example.com", 3)
            assert other.calls == 0
    await server.close()


async def test_proxies_of_the_environment_are_not_asked(
    authority: Authority, bird: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{bird.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with exchange(authority) as site:
        assert await call(site.url("/EWS/Exchange.asmx", host=GOOD), authority.pem) is None
        with tinyproxy(authority.folder, host=GOOD) as proxy:
            url = site.url("/EWS/Exchange.asmx", host=GOOD)
            assert await call(url, authority.pem, proxy) is None
    assert bird.calls == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "169.254.169.254", "::1"])
async def test_a_proxy_on_this_machine_is_not_asked(bird: Canary, host: str) -> None:
    error = await call("https://mail.example.com/", proxy=Proxy(host, bird.port))
    assert isinstance(error, ProxyTrouble) and bird.calls == 0


async def test_through_a_proxy(authority: Authority, tmp_path: Path, bird: Canary) -> None:
    """The proxy would call anything: what it is asked for is what counts."""
    with tinyproxy(tmp_path, host=GOOD) as proxy:
        for url in bird.urls():
            error = await call(url, proxy=proxy)
            assert isinstance(error, AddressForbidden | NotEws), (url, error)
        assert connects(tmp_path) == []
        async with exchange(authority) as site:
            url = site.url("/EWS/Exchange.asmx", host=GOOD)
            assert await call(url, authority.pem, proxy) is None
    assert connects(tmp_path) == [f"{GOOD}:{site.port}"]
    assert bird.calls == 0


async def test_without_the_guard_the_proxy_is_asked(
    tmp_path: Path, bird: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "check", lambda *_address, **_rules: None)
    with tinyproxy(tmp_path, host=GOOD) as proxy:
        await call(f"https://127.0.0.1:{bird.port}/", proxy=proxy)
        await asyncio.sleep(_SOON_S)
    assert bird.calls == 1
