"""Autodiscover that lies: no answer of it leads to an address that ENS must not connect to.

The company's server has an address of its own, the only one that the guard lets pass here. The
rest of loopback stands for everything forbidden: listeners there count who comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest

from apps.exchange.autodiscover.service import Autodiscover
from apps.exchange.autodiscover.srv import DnsResolver
from apps.exchange.errors import AutodiscoverFailed, ExchangeError
from apps.exchange.interface import Endpoint, Reach
from apps.exchange.transport import MAX_RESPONSE_BYTES, Transport
from apps.lab.exchange import LabExchange
from apps.lab.exchange.autodiscover import POX_PATH, SOAP_PATH, Detour
from apps.wire.proxy import Proxy
from tests.exchange.autodiscover import messages
from tests.exchange.autodiscover.world import ADDRESS, ANNA, RECORD, permit_for
from tests.exchange.dns_server import NameServer, name_server
from tests.wire.servers import Authority

OURS = "127.0.0.2"
ONLY_OURS = (ip_network(f"{OURS}/32"),)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

# `{p}` is the port of the listeners, `{q}` that of the company's own server.
HOSTILE = {
    "loopback": "https://127.0.0.1:{p}/x",
    "its name": "https://localhost:{p}/x",
    "a name below it": "https://mail.corp.localhost:{p}/x",
    "IPv6 loopback": "https://[::1]:{p}/x",
    "IPv4-mapped": "https://[::ffff:127.0.0.1]:{p}/x",
    "IPv4-mapped in hex": "https://[::ffff:7f00:1]:{p}/x",
    "IPv4-compatible": "https://[::127.0.0.1]:{p}/x",
    "IPv4-translated": "https://[::ffff:0:127.0.0.1]:{p}/x",
    "NAT64": "https://[64:ff9b::127.0.0.1]:{p}/x",
    "NAT64 in hex": "https://[64:ff9b::7f00:1]:{p}/x",
    "6to4": "https://[2002:7f00:1::]:{p}/x",
    "unspecified": "https://0.0.0.0:{p}/x",
    "IPv6 unspecified": "https://[::]:{p}/x",
    "decimal": "https://2130706433:{p}/x",
    "hexadecimal": "https://0x7f000001:{p}/x",
    "octal": "https://0177.0.0.1:{p}/x",
    "short": "https://127.1:{p}/x",
    "zero": "https://0:{p}/x",
    "dot at the end": "https://127.0.0.1.:{p}/x",
    "circled digits": "https://①②⑦.0.0.1:{p}/x",
    "wide digits": "https://１２７.０.０.１:{p}/x",
    "ideographic full stops": "https://127。0。0。1:{p}/x",
    "percent-encoded": "https://%31%32%37.0.0.1:{p}/x",
    "user name": "https://127.0.0.2:{q}@127.0.0.1:{p}/x",
    "user name and password": "https://127.0.0.2:443:x@127.0.0.1:{p}/x",
    "backslash": "https://127.0.0.1:{p}\\@127.0.0.2:{q}/x",
    "backslash for slash": "https:\\\\127.0.0.1:{p}\\x",
    "fragment": "https://127.0.0.1:{p}#@127.0.0.2:{q}/x",
    "query": "https://127.0.0.1:{p}?@127.0.0.2:{q}/x",
    "no scheme": "//127.0.0.1:{p}/x",
    "one slash": "https:/127.0.0.1:{p}/x",
    "no slash": "https:127.0.0.1:{p}/x",
    "zone": "https://[::1%25lo]:{p}/x",
    "half an address": "https://[::1:{p}/x",
    "line break": "https://127.0.0.2:{q}/x\r\nHost: 127.0.0.1:{p}",
    "tab": "ht\ttps://127.0.0.1:{p}/x",
    "soft hyphen": "https://127\u00ad.0.0.1:{p}/x",
    "http": "http://127.0.0.1:{p}/x",
    "http by name": "http://localhost:{p}/x",
    "file": "file:///etc/hostname",
    "file with host": "file://127.0.0.1:{p}/etc/hostname",
    "gopher": "gopher://127.0.0.1:{p}/_x",
    "ftp": "ftp://127.0.0.1:{p}/x",
    "ldap": "ldap://127.0.0.1:{p}/x",
    "dict": "dict://127.0.0.1:{p}/x",
    "smb": "\\\\127.0.0.1@{p}\\x",
    "metadata": "https://169.254.169.254/latest",
    "port of another": "https://127.0.0.2:{p}/x",
}
# What no header can carry, the lab's server would not send.
IN_HEADERS = [name for name, url in HOSTILE.items() if url.isascii() and url.isprintable()]
SRV_TARGETS = (
    "localhost",
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "127.1",
    "0",
    "x.localhost",
    "[::1]",
)


@dataclass
class Trap:
    """Listeners at forbidden addresses, one port on each; `accepted` counts who came."""

    port: int = 0
    accepted: int = 0
    servers: list[asyncio.Server] = field(default_factory=list)

    def take(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        writer.close()


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    made = Trap()
    for host in ("127.0.0.1", "::1"):
        made.servers.append(await asyncio.start_server(made.take, host, made.port))
        made.port = made.servers[0].sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        for server in made.servers:
            server.close()


@dataclass
class Den:
    """The company at 127.0.0.2, led to by the SRV record, and the trap around it."""

    lab: LabExchange
    dns: NameServer
    trap: Trap
    transport: Transport

    @property
    def port(self) -> int:
        return urlsplit(self.lab.url).port or 0

    def hostile(self, url: str) -> str:
        return url.format(p=self.trap.port, q=self.port)

    def reach(self, permit: Callable[[str], str | None] | None = None) -> Reach:
        """The company's mail system, or one that permits whatever a careless rule would."""
        listed = permit_for([f"{OURS}:{self.port}"])
        endpoint = Endpoint("", self.lab.ca_pem, exceptions=ONLY_OURS)
        return Reach("den", endpoint, permit or listed)

    async def find(self, reach: Reach, address: str = ADDRESS) -> str:
        """Where EWS are, and a call there: whatever was found is called as a join would."""
        resolver = DnsResolver([self.dns.address])
        service = Autodiscover(self.transport, resolver, ports=(self.trap.port, self.trap.port))
        url = await service.ews_url(reach, ANNA, address, 4)
        await self.transport.post(replace(reach.endpoint, url=url), ANNA, b"<x/>", 2)
        return url


@pytest.fixture
async def den() -> AsyncIterator[Den]:
    lab, transport = LabExchange(names=[OURS]), Transport("0.1.0")
    lab.add_mailbox(ADDRESS, "Anna", ANNA.password, username="anna", domain="CORP")
    await lab.start(OURS)
    try:
        async with name_server() as dns, trap() as made:
            yield Den(lab, dns, made, transport)
            await transport.close()
    finally:
        await lab.stop()


def led_to_the_company(den: Den) -> None:
    den.dns.records[RECORD] = [f"0 0 {den.port} {OURS}."]


def lead_by_proxy_to_the_trap(den: Den, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{den.trap.port}")
    monkeypatch.setenv("no_proxy", "")


def careless(url: str) -> str:
    return url


def detours(url: str) -> list[list[Detour]]:
    """Every way in which the company's own service could name an address."""
    return [
        [Detour("redirect_url", url)],
        [Detour("moved", url)],
        [Detour("missing", protocol="soap"), Detour("redirect_url", url)],
        [Detour("missing", protocol="soap"), Detour("moved", url)],
    ]


@pytest.mark.parametrize("name", HOSTILE)
async def test_redirects_and_addresses(
    den: Den, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the guard alone, and with the list of hosts before it."""
    lead_by_proxy_to_the_trap(den, monkeypatch)
    led_to_the_company(den)
    url = den.hostile(HOSTILE[name])
    for reach in (den.reach(careless), den.reach()):
        for way in detours(url):
            if any(one.kind == "moved" for one in way) and name not in IN_HEADERS:
                continue
            den.lab.autodiscover.detours = way
            with pytest.raises(ExchangeError):
                await den.find(reach)
        den.lab.autodiscover.detours = []
        den.lab.autodiscover.ews_url = url
        with pytest.raises(ExchangeError):
            await den.find(reach)
    assert den.lab.autodiscover.asked
    assert den.trap.accepted == 0


@pytest.mark.parametrize("name", IN_HEADERS)
async def test_redirects_by_plain_http(den: Den, name: str) -> None:
    """Here the plain server is the company's; whom it names is not."""
    url = den.hostile(HOSTILE[name])
    reach = den.reach(careless)
    location = await _plain(den, url)
    with pytest.raises(ExchangeError):
        await den.transport.post(replace(reach.endpoint, url=location), ANNA, b"<x/>", 2)
    assert den.trap.accepted == 0


async def _plain(den: Den, url: str) -> str:
    async def away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(away, OURS, 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(f"http://{OURS}:{port}{POX_PATH}", exceptions=ONLY_OURS)
    location = await den.transport.redirect_of(endpoint, 2)
    server.close()
    return location


async def test_no_proxy_is_asked_for_a_domain_of_a_strangers_own(den: Den) -> None:
    """It may know the name from inside, or be told another address than we are."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, OURS, 0)
    port = server.sockets[0].getsockname()[1]
    reach = den.reach()
    reach = replace(reach, endpoint=replace(reach.endpoint, proxy=Proxy(OURS, port)))
    with pytest.raises(AutodiscoverFailed):
        await den.find(reach, address="anna@inside.example")
    assert asked == []
    server.close()


@pytest.mark.parametrize("target", SRV_TARGETS)
async def test_srv_records(den: Den, target: str) -> None:
    den.dns.records[RECORD] = [f"0 0 {den.trap.port} {target}."]
    for permit in (careless, None):
        with pytest.raises(ExchangeError):
            await den.find(den.reach(permit))
    assert den.dns.asked == [RECORD] * 2
    assert den.trap.accepted == 0


@pytest.mark.parametrize(
    "domain", ["localhost", "corp.localhost", "127.0.0.1", "2130706433", "0x7f000001", "[::1]", "0"]
)
async def test_domains_of_a_strangers_own(den: Den, domain: str) -> None:
    """Its places, plain HTTP too, have the listeners' port here."""
    for permit in (careless, None):
        with pytest.raises(AutodiscoverFailed):
            await den.find(den.reach(permit), address=f"anna@{domain}")
    assert den.trap.accepted == 0


async def test_plain_http_is_not_asked_within_private_networks(den: Den) -> None:
    """Leave for private addresses holds for hosts that are listed, and for no others."""
    asked: list[Endpoint] = []

    class Spy:
        post = den.transport.post

        async def redirect_of(self, endpoint: Endpoint, deadline_s: float) -> str:
            asked.append(endpoint)
            return await den.transport.redirect_of(endpoint, deadline_s)

    reach = den.reach()
    reach = replace(reach, endpoint=replace(reach.endpoint, allow_private=True))
    service = Autodiscover(Spy(), DnsResolver([den.dns.address]))
    with pytest.raises(AutodiscoverFailed):
        await service.ews_url(reach, ANNA, "anna@evil.localhost", 2)
    assert [one.allow_private for one in asked] == [False]
    listing = replace(reach, permit=permit_for(["autodiscover.evil.localhost"]))
    with pytest.raises(AutodiscoverFailed):
        await service.ews_url(replace(listing, name="x"), ANNA, "anna@evil.localhost", 2)
    assert [one.allow_private for one in asked] == [False, True]


async def test_the_listeners_would_notice(den: Den) -> None:
    """The same ways, with a guard that lets loopback pass."""
    led_to_the_company(den)
    reach = den.reach(careless)
    reach = replace(reach, endpoint=replace(reach.endpoint, exceptions=LOOPBACK))
    for name in ("loopback", "its name", "IPv6 loopback", "decimal", "hexadecimal", "short"):
        before = den.trap.accepted
        den.lab.autodiscover.detours = [Detour("redirect_url", den.hostile(HOSTILE[name]))]
        with pytest.raises(ExchangeError):
            await den.find(reach)
        assert den.trap.accepted > before, name


async def test_a_proxy_in_the_environment_is_not_asked(
    den: Den, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_by_proxy_to_the_trap(den, monkeypatch)
    led_to_the_company(den)
    with pytest.raises(ExchangeError):  # an EWS request it is not
        await den.find(den.reach())
    assert sum(den.lab.autodiscover.asked.values()) == 1
    assert den.trap.accepted == 0


class TestAnswers:
    @pytest.mark.parametrize("name", messages.BOMBS)
    async def test_bombs(self, den: Den, name: str) -> None:
        led_to_the_company(den)
        raw = messages.BOMBS[name].decode("latin-1")
        den.lab.autodiscover.detours = [Detour("raw", raw)]
        async with asyncio.timeout(4):
            with pytest.raises(AutodiscoverFailed):
                await den.find(den.reach())
        assert den.trap.accepted == 0

    async def test_huge(self, den: Den) -> None:
        led_to_the_company(den)
        den.lab.autodiscover.detours = [Detour("raw", "x" * (MAX_RESPONSE_BYTES + 1))]
        with pytest.raises(AutodiscoverFailed):
            await den.find(den.reach())

    @pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<a>"])
    async def test_a_byte_at_a_time(self, den: Den, authority: Authority, head: bytes) -> None:
        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while not writer.is_closing():
                writer.write(b"H")
                await asyncio.sleep(0.05)

        context, _ = authority.context(OURS)
        server = await asyncio.start_server(drip, OURS, 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        den.dns.records[RECORD] = [f"0 0 {port} {OURS}."]
        endpoint = Endpoint("", authority.pem, exceptions=ONLY_OURS)
        reach = Reach("drip", endpoint, permit_for([f"{OURS}:{port}"]))
        service = Autodiscover(den.transport, DnsResolver([den.dns.address]), ports=(9, 9))
        async with asyncio.timeout(3):
            with pytest.raises(AutodiscoverFailed):
                await service.ews_url(reach, ANNA, ADDRESS, 1.5)
        server.close()

    @pytest.mark.parametrize("raw", [b"", b"\x00" * 40, b"\xff" * 4000])
    async def test_name_servers_that_send_rubbish(self, den: Den, raw: bytes) -> None:
        den.dns.raw = raw
        with pytest.raises(AutodiscoverFailed) as caught:
            await DnsThenNothing(den).find()
        assert caught.value.transient

    async def test_more_srv_records_than_one_can_try(self, den: Den) -> None:
        den.dns.records[RECORD] = [f"{n} 0 9 host{n}.corp.localhost." for n in range(40)]
        tried: list[str] = []

        def permit(url: str) -> None:
            tried.append(url)

        with pytest.raises(ExchangeError):
            await den.find(den.reach(permit))
        assert len([url for url in tried if "//host" in url]) == 4
        assert SOAP_PATH in tried[0]


@dataclass
class DnsThenNothing:
    """A short look-up, for name servers that never come to the point."""

    den: Den

    async def find(self) -> str:
        resolver = DnsResolver([self.den.dns.address])
        service = Autodiscover(self.den.transport, resolver, ports=(9, 9))
        return await service.ews_url(self.den.reach(), ANNA, ADDRESS, 1.0)
