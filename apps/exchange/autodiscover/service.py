"""The order in which Autodiscover is looked for, and what may be believed on the way.

https://learn.microsoft.com/exchange/client-developer/exchange-web-services/autodiscover-for-exchange
names the places: the domain, `autodiscover.` before it, a redirect by plain HTTP, the SRV record.
Everybody on the way may lie: DNS, plain HTTP, and a server in what it answers. So credentials go
to hosts of the mail system only, over TLS that is verified, and so does what is found.

Unlike Microsoft's clients we end at the first 401: the next place would most likely ask the same
directory, and a few refused logins lock an account.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol
from urllib.parse import urljoin, urlsplit

import idna

from apps.exchange.autodiscover import pox, soap
from apps.exchange.autodiscover.answers import Answer, Found, ToAddress, ToUrl
from apps.exchange.autodiscover.srv import Resolver, in_order
from apps.exchange.errors import (
    AddressForbidden,
    AutodiscoverFailed,
    AutodiscoverHostNotAllowed,
    CredentialsRefused,
    ExchangeError,
    LoginImpossible,
    MailboxNotFound,
    Moved,
    NotEws,
    ServerBusy,
    TlsRefused,
    Unreachable,
)
from apps.exchange.interface import Credentials, Endpoint, Reach
from apps.wire.client import Response

# As Microsoft's pages say: https://learn.microsoft.com/exchange/client-developer/web-service-reference/redirecturl-pox
MAX_REDIRECTS: Final = 10
KNOWN_FOR_S: Final = 3600.0
UNKNOWN_FOR_S: Final = 120.0
_KNOWN_AT_MOST: Final = 1000
_LEAST_S: Final = 0.5

_Kind = Literal["soap", "pox"]
_HOST = re.compile(r"[a-z0-9.:\[\]-]{1,260}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A last label that is a number would make resolvers read an address.
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$|0x){_LABEL}")
# Nothing else at this host would do better.
_HOST_IS_OUT = (AddressForbidden, ServerBusy, TlsRefused, Unreachable)
# A service has answered so, and will answer others.
_HEARD = (MailboxNotFound, ServerBusy)
# What is said where there is no Autodiscover, whoever asks.
_NO_SERVICE = (AddressForbidden, NotEws)


class Sender(Protocol):
    """What is needed of `apps.exchange.transport.Transport`."""

    async def post(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> Response:
        """See `Transport.post`."""

    async def redirect_of(self, endpoint: Endpoint, deadline_s: float) -> str:
        """See `Transport.redirect_of`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an Autodiscover service answers, and in which protocol."""

    kind: _Kind
    url: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """Where to look for a domain's service, in this order.

    `https`: without a path. `redirect`: a plain HTTP address. `record`: the name of an SRV record.
    """

    https: tuple[str, str]
    redirect: str
    record: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a domain until then: the place that answers, or that none does."""

    until: float
    place: Place | None
    hosts: tuple[str, ...] = ()


def domain_of(address: str) -> str:
    """The domain of an SMTP address, in lower case and A-labels.

    Raises:
        AutodiscoverFailed: it is no address, or its domain no name that DNS could hold.
    """
    local, at, domain = address.strip().rpartition("@")
    try:
        if not domain.isascii():
            domain = idna.encode(domain, uts46=True).decode()
    except ValueError:  # what idna raises holds the domain
        raise AutodiscoverFailed from None
    domain = domain.lower().rstrip(".")
    if not (local and at and _DOMAIN.fullmatch(domain)) or len(domain) > 220:
        raise AutodiscoverFailed
    return domain


def candidates(domain: str, ports: tuple[int, int] = (443, 80)) -> Candidates:
    """The places that follow from a domain; `ports`: of HTTPS and of plain HTTP."""
    secure = "" if ports[0] == 443 else f":{ports[0]}"
    plain = "" if ports[1] == 80 else f":{ports[1]}"
    return Candidates(
        https=(f"https://{domain}{secure}", f"https://autodiscover.{domain}{secure}"),
        redirect=f"http://autodiscover.{domain}{plain}{pox.PATH}",
        record=f"_autodiscover._tcp.{domain}",
    )


def by_plain_http(reach: Reach, url: str, secure: str) -> Endpoint | None:
    """How the host of `url` is asked where it leads to, None where it must not be.

    Who claims an address of a domain of his own must not make us knock inside; nor a proxy, which
    may know the name from there, or be told another address than we are. `secure`: the address of
    the same host by HTTPS, which is what is listed.
    """
    listed = reach.permit(secure) is not None
    if reach.endpoint.proxy is not None and not listed:
        return None
    inside = reach.endpoint.allow_private and listed
    return replace(reach.endpoint, url=url, allow_private=inside)


class Autodiscover:
    """Finds EWS addresses; remembers which place answered for which domain of a mail system.

    Args:
        sender: the way to servers.
        resolver: who looks SRV records up.
        ports: of the places that follow from the domain: HTTPS and plain HTTP.
    """

    def __init__(
        self, sender: Sender, resolver: Resolver, *, ports: tuple[int, int] = (443, 80)
    ) -> None:
        self.sender = sender
        self.resolver = resolver
        self.ports = ports
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    async def ews_url(
        self, reach: Reach, credentials: Credentials, address: str, deadline_s: float
    ) -> str:
        """The EWS address of a mailbox, on a host of its mail system.

        Raises:
            CredentialsRefused: a 401; nothing else was tried with these credentials after it.
            AutodiscoverHostNotAllowed: the way led to hosts that the mail system doesn't list.
            MailboxNotFound: a service answered that it doesn't know the mailbox.
            AutodiscoverFailed: no place answered; transient if one may do so later.
            ServerBusy: one did, that it is throttling, and no other answered.
            LoginImpossible: one did, and these credentials can't be used there.
        """
        journey = _Journey(self, reach, credentials, deadline_s)
        while True:
            found = await journey.from_address(address)
            if isinstance(found, str):
                return found
            address = found.address

    def known(self, reach: Reach, domain: str) -> _Known | None:
        """What is known of a domain just now."""
        key = (reach.name, domain)
        known = self._known.get(key)
        if known is None or known.until < time.monotonic():
            self._known.pop(key, None)
            return None
        self._known.move_to_end(key)
        return known

    def learn(
        self, reach: Reach, domain: str, place: Place | None, hosts: tuple[str, ...] = ()
    ) -> None:
        """Remember the place that answered for a domain, or that none did."""
        until = time.monotonic() + (UNKNOWN_FOR_S if place is None else KNOWN_FOR_S)
        self._known[reach.name, domain] = _Known(until, place, hosts)
        while len(self._known) > _KNOWN_AT_MOST:
            self._known.popitem(last=False)

    def forget(self, reach: Reach, domain: str) -> None:
        """What was known of a domain is no longer true."""
        self._known.pop((reach.name, domain), None)


class _Journey:
    """One mailbox' way from its address to EWS, and what was met on it."""

    def __init__(
        self, owner: Autodiscover, reach: Reach, credentials: Credentials, deadline_s: float
    ) -> None:
        self._owner = owner
        self._reach = reach
        self._credentials = credentials
        self._ends = time.monotonic() + deadline_s
        self._redirects = MAX_REDIRECTS
        self._seen: set[tuple[str, str]] = set()
        self._refused_hosts: dict[str, None] = {}
        self._errors: list[ExchangeError] = []
        self._answered = False
        # Whether something was said to these credentials, be it nonsense: of this mailbox, perhaps.
        self._heard = False

    async def from_address(self, address: str) -> str | ToAddress:
        """Try the place that answered last time, else all; an EWS address, or another mailbox."""
        domain = domain_of(address)
        if ("address", address.lower()) in self._seen:
            raise AutodiscoverFailed
        self._seen.add(("address", address.lower()))
        known = self._owner.known(self._reach, domain)
        if known is not None:
            if known.place is None:
                raise _failure(known.hosts)
            ends = time.monotonic() + self._share()
            answer = await self._ask(known.place, address, domain, ends)
            if answer is not None:
                return answer
            # It is as good as before for others, if only this mailbox or moment is the trouble.
            if not (self._answered or any(isinstance(e, _HEARD) for e in self._errors[-1:])):
                self._owner.forget(self._reach, domain)
        async for place, ends in self._places(domain):
            answer = await self._ask(place, address, domain, ends)
            if answer is not None:
                return answer
        raise self._nothing(domain)

    async def _places(self, domain: str) -> AsyncIterator[tuple[Place, float]]:
        """The places in Microsoft's order, each with the time by which it must have answered.

        No place gets more than half of what is left, that one slow one does not use up all.
        """
        where = candidates(domain, self._owner.ports)
        for base in where.https:
            if self._reach.permit(base + soap.PATH):
                for one in self._both(base):
                    yield one
        for url in await self._redirected(where.redirect, where.https[-1] + soap.PATH):
            for one in self._both(url):
                yield one
        for url in await self._recorded(where.record):
            for one in self._both(url):
                yield one

    def _share(self) -> float:
        """Seconds that the next place may take."""
        left = self._ends - time.monotonic()
        return min(left, max(_LEAST_S, left / 2))

    def _both(self, base: str) -> list[tuple[Place, float]]:
        """SOAP, then POX at one host; `base` with the path where POX answers, or without one."""
        ends = time.monotonic() + self._share()
        places: list[tuple[Place, float]] = []
        scheme_and_host = "/".join(base.split("/", 3)[:3])
        path = base[len(scheme_and_host) :] or pox.PATH
        if path.lower() == pox.PATH:
            places.append((Place("soap", scheme_and_host + soap.PATH), ends))
        kind: _Kind = "soap" if path.lower().endswith(".svc") else "pox"
        places.append((Place(kind, scheme_and_host + path), ends))
        return places

    async def _redirected(self, url: str, secure: str) -> list[str]:
        """Where plain HTTP leads to, if to a host of the mail system. Nothing secret is sent.

        `secure`: the address of the same host by HTTPS.
        """
        listed = self._reach.permit(secure) is not None
        endpoint = by_plain_http(self._reach, url, secure)
        if endpoint is None:
            return []
        try:
            location = await self._owner.sender.redirect_of(endpoint, self._share())
        except ExchangeError:
            # Most domains have no such host, or nothing there that speaks plain HTTP.
            return []
        if location:
            permitted = self._follow(_joined(url, location))
            return [permitted] if permitted else []
        if not listed:
            # There is such a host, and it would have been the second place if it were listed.
            self._note(secure)
        return []

    async def _recorded(self, record: str) -> list[str]:
        """Where the SRV record leads to, as far as these are hosts of the mail system."""
        try:
            records = await self._owner.resolver.srv(record, self._share())
        except ExchangeError as error:
            self._errors.append(error)
            return []
        urls = []
        for one in in_order(records):
            port = "" if one.port == 443 else f":{one.port}"
            url = self._permitted(f"https://{one.target.lower()}{port}{pox.PATH}")
            urls += [url] if url else []
        return urls

    async def _ask(
        self, place: Place, address: str, domain: str, ends: float
    ) -> str | ToAddress | None:
        """Ask one place, and where it leads to; None where that comes to nothing."""
        first: Place | None = None
        at: Place | None = place
        while at is not None:
            try:
                answer = await self._post(at, address, ends)
            except Moved as moved:
                at = self._moved(at, _joined(at.url, moved.location))
                continue
            except CredentialsRefused:
                raise
            except ExchangeError as error:
                self._errors.append(error)
                if isinstance(error, _HOST_IS_OUT):
                    self._seen.add(("host", _host_of(at.url)))
                return None
            self._answered = True
            first = first or at
            if isinstance(answer, ToUrl):
                at = self._moved(at, answer.url)
                continue
            self._owner.learn(self._reach, domain, first)
            return self._taken(answer)
        return None

    async def _post(self, place: Place, address: str, ends: float) -> Answer:
        """One request.

        Raises:
            Moved: HTTP sends us elsewhere.
            ExchangeError: everything else that is no answer.
        """
        visit = (f"{place.kind} {place.url}", address.lower())
        url = self._reach.permit(place.url)
        if url is None or visit in self._seen or ("host", _host_of(place.url)) in self._seen:
            raise AutodiscoverFailed
        self._seen.add(visit)
        left = min(ends, self._ends) - time.monotonic()
        if left <= 0:
            raise Unreachable("no_time_left")
        endpoint = replace(self._reach.endpoint, url=url)
        body = soap.request(url, address) if place.kind == "soap" else pox.request(address)
        response = await self._owner.sender.post(endpoint, self._credentials, body, left)
        self._heard = True
        return soap.parse(response.body) if place.kind == "soap" else pox.parse(response.body)

    def _moved(self, place: Place, url: str) -> Place | None:
        """The place that a redirect names, in the protocol that its path tells."""
        permitted = self._follow(url)
        if permitted is None:
            return None
        path = permitted.partition("?")[0].lower()
        kind = place.kind
        if path.endswith((".svc", ".xml")):
            kind = "soap" if path.endswith(".svc") else "pox"
        return Place(kind, permitted)

    def _taken(self, answer: Found | ToAddress) -> str | ToAddress:
        """What an answer says, if we may use it."""
        if isinstance(answer, ToAddress):
            self._redirects -= 1
            if self._redirects < 0:
                raise AutodiscoverFailed
            return answer
        for url in answer.ews_urls:
            permitted = self._permitted(url)
            if permitted:
                return permitted
        raise _failure(tuple(self._refused_hosts))

    def _follow(self, url: str) -> str | None:
        self._redirects -= 1
        return self._permitted(url) if self._redirects >= 0 else None

    def _permitted(self, url: str) -> str | None:
        permitted = self._reach.permit(url)
        if permitted is None:
            self._note(url)
        return permitted

    def _note(self, url: str) -> None:
        """Keep the host for the administrator, if it looks like one."""
        host = _host_of(url)
        if url.lower().startswith("https://") and _HOST.fullmatch(host):
            self._refused_hosts[host] = None

    def _nothing(self, domain: str) -> ExchangeError:
        """Why no place was of use, the most telling reason first."""
        hosts = tuple(self._refused_hosts)
        for kind in (MailboxNotFound, ServerBusy, LoginImpossible):
            for error in self._errors:
                if isinstance(error, kind):
                    return error
        # What one mailbox meets tells nothing of its domain.
        if not self._heard and all(isinstance(error, _NO_SERVICE) for error in self._errors):
            self._owner.learn(self._reach, domain, None, hosts)
        return _failure(hosts, transient=any(error.transient for error in self._errors))


def _failure(hosts: tuple[str, ...], *, transient: bool = False) -> ExchangeError:
    return AutodiscoverHostNotAllowed(hosts) if hosts else AutodiscoverFailed(transient=transient)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()[:300]
    except ValueError:  # half of an IPv6 address
        return ""


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        return ""
