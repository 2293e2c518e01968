"""A company whose Exchange is the lab's, found over real sockets by real names.

libcurl knows by itself that every name below `localhost` is this machine (RFC 6761, 6.3), so
`autodiscover.corp.localhost` needs no name server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from apps.exchange.autodiscover.service import Autodiscover
from apps.exchange.autodiscover.srv import DnsResolver
from apps.exchange.interface import Credentials, Endpoint, Reach
from apps.exchange.transport import Transport
from apps.lab.exchange import LabExchange
from apps.lab.exchange.auth import Method
from apps.tenants.ews_urls import EwsUrlRefused, normal_url
from tests.exchange.dns_server import NameServer, name_server

LOOPBACK = (ip_network("127.0.0.0/8"),)
NAMES = (
    "corp.localhost",
    "autodiscover.corp.localhost",
    "mail.corp.localhost",
    "one.localhost",
    "two.localhost",
    "three.localhost",
    "autodiscover.new.localhost",
)
ANNA = Credentials(type="basic", username="CORP\\anna", password="anna-lab-1")
ADDRESS = "anna@corp.localhost"
RECORD = "_autodiscover._tcp.corp.localhost"


def permit_for(hosts: Iterable[str]) -> Callable[[str], str | None]:
    """What a mail system with these hosts permits, as `apps.tenants` would say it."""
    listed = frozenset(hosts)

    def permit(url: str) -> str | None:
        try:
            host, normal = normal_url(url)
        except EwsUrlRefused:
            return None
        return normal if host in listed else None

    return permit


@dataclass
class World:
    """The company, and us outside of it."""

    lab: LabExchange
    dns: NameServer
    transport: Transport
    http_port: int = 1

    @property
    def port(self) -> int:
        return urlsplit(self.lab.url).port or 443

    def service(self) -> Autodiscover:
        """A new one, which knows nothing yet."""
        resolver = DnsResolver([self.dns.address])
        return Autodiscover(self.transport, resolver, ports=(self.port, self.http_port))

    def at(self, name: str, path: str = "") -> str:
        return f"https://{name}:{self.port}{path}"

    def reach(
        self,
        *names: str,
        exceptions: tuple[IPv4Network | IPv6Network, ...] = LOOPBACK,
    ) -> Reach:
        """A mail system that lists these names, each with the lab's port unless it has one."""
        hosts = [name if ":" in name else f"{name}:{self.port}" for name in names]
        endpoint = Endpoint("", self.lab.ca_pem, exceptions=exceptions)
        return Reach("system", endpoint, permit_for(hosts))

    async def find(self, *names: str, address: str = ADDRESS, deadline_s: float = 8.0) -> str:
        """Where the mailbox' EWS are, for a mail system that lists these names."""
        return await self.service().ews_url(self.reach(*names), ANNA, address, deadline_s)

    def refused(self) -> int:
        """How many logins the lab has refused."""
        return sum(self.lab.counters()["unauthorized"].values())


@asynccontextmanager
async def world(*methods: Method) -> AsyncIterator[World]:
    """The lab with Anna's mailbox, a name server that knows nothing, and a transport.

    `methods`: how users log in there; Basic for none.
    """
    lab = LabExchange(names=NAMES, auth=frozenset(methods or ("basic",)))
    transport = Transport("0.1.0")
    lab.add_mailbox(ADDRESS, "Anna", ANNA.password, username="anna", domain="CORP")
    async with lab, name_server() as dns:
        try:
            yield World(lab, dns, transport)
        finally:
            await transport.close()


def without_loopback(reach: Reach) -> Reach:
    """The same mail system as in production, where the guard has no exceptions."""
    return replace(reach, endpoint=replace(reach.endpoint, exceptions=()))
