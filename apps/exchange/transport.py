"""How a request reaches a mail server: who is told who we are, over which connection.

Operations (`apps.exchange.ews`) are bytes out and bytes in; everything about connections, TLS,
the address guard, authentication and HTTP statuses stands here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from apps.exchange import guard
from apps.exchange.auth import connections, offers
from apps.exchange.auth.connection import basic, check_refusal
from apps.exchange.auth.connections import UserConnections
from apps.exchange.errors import (
    BRIEF_BACK_OFF_S,
    DEFAULT_BACK_OFF_S,
    MAX_BACK_OFF_S,
    AddressForbidden,
    CredentialsExpired,
    CredentialsRefused,
    ExchangeError,
    Forbidden,
    GatewayRefused,
    LoginImpossible,
    Moved,
    NotEws,
    NtlmBehindGateway,
    ProxyTrouble,
    ServerBusy,
    TlsRefused,
    Unreachable,
)
from apps.exchange.gateway import Gateway
from apps.exchange.interface import Credentials, Endpoint
from apps.wire.client import (
    AddressRefused,
    Client,
    ConnectFailed,
    DeadlineExceeded,
    Request,
    Response,
    Tls,
    TlsFailed,
    TlsFloor,
    WireError,
)
from apps.wire.errors import ProxyFailed
from apps.wire.proxy import Proxy

# What a connection was made under: rules for addresses, the proxy, the TLS floor.
_Policy = tuple[bool, tuple[IPv4Network | IPv6Network, ...], Proxy | None, TlsFloor]

MAX_RESPONSE_BYTES: Final = 2 * 1024 * 1024
# Of an answer that is looked at for its Location only.
_MAX_REDIRECT_BYTES: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# How long we remember what a server offers, in seconds, and of how many servers.
_OFFERS_FRESH_S: Final = 3600.0
_MOST_SERVERS: Final = 1000


@dataclass(slots=True)
class _Server:
    """An endpoint: whose client serves all users, and what it offers until when."""

    client: Client
    known_until: float = 0.0
    offered: frozenset[str] = frozenset()
    bearer_until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Transport:
    """Requests to any number of mail servers for any number of users, in one event loop.

    Basic and bearer tokens authenticate each request: their connections are shared by all users.
    Whoever logs in by NTLM, Kerberos or a certificate has connections of his own.

    Args:
        version: of ENS, for the user agent, which administrators put on lists.
        max_host_connections: shared connections to one host at most, 0 for no limit.
        max_users: connections of users' own at most; who comes then waits.
        idle_s: how long those are kept without a request.
    """

    def __init__(
        self,
        version: str,
        *,
        max_host_connections: int = 0,
        max_users: int = connections.MOST,
        idle_s: float = connections.IDLE_S,
    ) -> None:
        self._agent = f"MailNotificationService/v2 (EWS/{version})"
        self._max_host_connections = max_host_connections
        # A connection made under lenient rules must not serve an endpoint with strict ones.
        self._clients: dict[_Policy, Client] = {}
        self._servers: dict[Endpoint, _Server] = {}
        self._users = UserConnections(lambda endpoint: new_client(endpoint, 1), max_users, idle_s)

    async def post(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> Response:
        """Send a SOAP request as the owner of the credentials; the answer is SOAP, as far as known.

        The scheme is chosen from what the server offers; no password is sent by another one.

        Raises:
            CredentialsExpired: a token or certificate whose time is over; nothing was sent.
            CredentialsRefused: 401; never tried again here, which could lock the account.
            LoginImpossible: the server offers no scheme for these credentials, or none that works.
            ExchangeError: everything else that is not 200 or 500, by its kind.
        """
        if credentials.expired(time.time()):
            raise CredentialsExpired
        try:
            if credentials.type == "certificate":
                response = await self._with_certificate(endpoint, credentials, body, deadline_s)
            else:
                response = await self._as_offered(endpoint, credentials, body, deadline_s)
        except WireError as error:
            raise _from_wire(error) from error
        _check_status(response, endpoint.gateway)
        return response

    async def redirect_of(self, endpoint: Endpoint, deadline_s: float) -> str:
        """Ask an `http` address, without credentials, where it leads to; nobody goes there.

        Returns the Location of a 301 or 302, as it came; empty for every other answer.

        Raises:
            ExchangeError: there is no answer.
        """
        request = Request(
            "GET",
            endpoint.url,
            (("User-Agent", self._agent),),
            deadline_s=deadline_s,
            max_response_bytes=_MAX_REDIRECT_BYTES,
            schemes=("http",),
        )
        try:
            response = await self._client(endpoint).perform(request)
        except WireError as error:
            raise _from_wire(error) from error
        return response.headers.get("location", "") if response.status in (301, 302) else ""

    async def close(self) -> None:
        """Close all connections; calls under way fail as Unreachable."""
        clients, self._clients = self._clients, {}
        self._servers.clear()
        for client in clients.values():
            await client.close()
        await self._users.close()

    def _request(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        body: bytes,
        deadline_s: float,
        *authorization: tuple[str, str],
    ) -> Request:
        return Request(
            "POST",
            endpoint.url,
            (
                *authorization,
                ("Content-Type", "text/xml; charset=utf-8"),
                ("Accept", "text/xml"),
                ("User-Agent", self._agent),
                *_identity(endpoint, credentials),
            ),
            body,
            deadline_s=deadline_s,
            max_response_bytes=MAX_RESPONSE_BYTES,
            tls=Tls(endpoint.ca_pem, floor=endpoint.tls_floor),
        )

    async def _as_offered(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> Response:
        """By the best scheme that the server offers and the credentials are for."""
        server = self._servers.get(endpoint) or self._know(endpoint)
        loop = asyncio.get_running_loop()
        bearer = credentials.type == "oauth"
        if (server.bearer_until if bearer else server.known_until) <= loop.time():
            ends = loop.time() + deadline_s
            await self._ask(server, endpoint, credentials, ends, bearer=bearer)
            deadline_s = ends - loop.time()
        if bearer:
            said = f"Bearer {credentials.token}"
        elif credentials.type == "basic" and "basic" in server.offered:
            said = basic(credentials)
        else:
            request = self._request(endpoint, credentials, body, deadline_s)
            return await self._on_own_connection(server, endpoint, credentials, request)
        request = self._request(endpoint, credentials, body, deadline_s, ("Authorization", said))
        response = await server.client.perform(request)
        if response.status != 401:
            return response
        try:
            return check_refusal(response, "bearer" if bearer else "basic")
        except LoginImpossible:
            server.known_until = server.bearer_until = 0.0
            raise

    async def _on_own_connection(
        self, server: _Server, endpoint: Endpoint, credentials: Credentials, request: Request
    ) -> Response:
        try:
            offers.choose(credentials, server.offered)
        except LoginImpossible:
            # It may be offered soon: the next one asks anew.
            server.known_until = 0.0
            raise
        if endpoint.gateway is not None:
            raise NtlmBehindGateway
        return await self._as_user(endpoint, credentials, request)

    async def _as_user(
        self, endpoint: Endpoint, credentials: Credentials, request: Request
    ) -> Response:
        """Over the user's own connection; waiting for one counts in the deadline."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + request.deadline_s
        async with AsyncExitStack() as kept:
            try:
                async with asyncio.timeout_at(ends):
                    of_user = self._users.of(endpoint, credentials)
                    connection = await kept.enter_async_context(of_user)
            except TimeoutError:
                raise DeadlineExceeded from None
            return await connection.post(replace(request, deadline_s=ends - loop.time()))

    async def _with_certificate(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> Response:
        request = self._request(endpoint, credentials, body, deadline_s)
        pem = credentials.certificate.encode()
        request = replace(request, tls=replace(request.tls, client_pem=pem))
        try:
            response = await self._as_user(endpoint, credentials, request)
        except TlsFailed as failed:
            if failed.code in ("client_certificate_unusable", "client_certificate_refused"):
                raise CredentialsRefused("certificate_refused") from failed
            raise
        if endpoint.gateway is not None and response.status in endpoint.gateway.refusals:
            raise GatewayRefused
        if response.status == 403 or (response.status == 400 and not _is_xml(response)):
            # IIS (403.7, .13, .16, .17) and nginx (400) let the handshake pass, and refuse then.
            raise CredentialsRefused("certificate_refused")
        return response

    async def _ask(
        self,
        server: _Server,
        endpoint: Endpoint,
        credentials: Credentials,
        ends: float,
        *,
        bearer: bool,
    ) -> None:
        """Find out what a server offers, by a request without credentials and without content.

        Exchange tells of OAuth only who comes with an empty bearer token. A gateway lets it pass
        like any request of this device.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(ends):
                await server.asking.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        try:
            if (server.bearer_until if bearer else server.known_until) > loop.time():
                return
            left = ends - loop.time()
            nobody = (("Authorization", "Bearer"),) if bearer else ()
            request = self._request(endpoint, credentials, b"", left, *nobody)
            answer = await server.client.perform(request)
            if answer.status != 401:
                _check_status(answer, endpoint.gateway)
            _note_offers(server, answer, loop.time() + _OFFERS_FRESH_S, bearer=bearer)
        finally:
            server.asking.release()

    def _know(self, endpoint: Endpoint) -> _Server:
        if len(self._servers) >= _MOST_SERVERS:
            # Devices may name URLs: who is asked anew loses a moment.
            del self._servers[next(iter(self._servers))]
        return self._servers.setdefault(endpoint, _Server(self._client(endpoint)))

    def _client(self, endpoint: Endpoint) -> Client:
        policy: _Policy = (
            endpoint.allow_private,
            endpoint.exceptions,
            endpoint.proxy,
            endpoint.tls_floor,
        )
        client = self._clients.get(policy)
        if client is None:
            client = new_client(endpoint, self._max_host_connections)
            self._clients[policy] = client
        return client


def new_client(endpoint: Endpoint, max_host_connections: int) -> Client:
    """A client that keeps an endpoint's rules for addresses and goes through its proxy.

    The proxy is the administrator's choice: it may stand in the private network, whatever holds
    for mail servers, but is no more this machine or a metadata service than they are.
    """
    exceptions = endpoint.exceptions
    return Client(
        partial(guard.check, allow_private=endpoint.allow_private, exceptions=exceptions),
        max_host_connections=max_host_connections,
        proxy=endpoint.proxy,
        check_proxy=partial(guard.check, allow_private=True, exceptions=exceptions),
    )


def _note_offers(server: _Server, answer: Response, until: float, *, bearer: bool) -> None:
    """Take what a server says to whoever brings nothing.

    Raises:
        LoginImpossible: `login_not_offered`: nothing, or no tokens.
    """
    offered = offers.schemes(answer.headers.get("www-authenticate", ""))
    if not offered or (bearer and "bearer" not in offered):
        raise LoginImpossible("login_not_offered")
    if bearer:
        server.bearer_until = until
    else:
        server.offered, server.known_until = offered, until


def _is_xml(response: Response) -> bool:
    return response.headers.get("content-type", "").lower().startswith("text/xml")


def _from_wire(error: WireError) -> ExchangeError:
    match error:
        case AddressRefused():
            return AddressForbidden()
        case TlsFailed():
            return TlsRefused()
        case ProxyFailed():
            return ProxyTrouble()
        case ConnectFailed() | DeadlineExceeded():
            return Unreachable()
    return NotEws()


def _identity(endpoint: Endpoint, credentials: Credentials) -> tuple[tuple[str, str], ...]:
    """The headers by which a gateway knows whose device this is."""
    return endpoint.gateway.headers_for(credentials.identity) if endpoint.gateway else ()


def _check_status(response: Response, gateway: Gateway | None) -> None:
    """Raise for every status that is not an answer in SOAP (200, or 500 with a fault).

    Raises:
        GatewayRefused: one of the statuses by which a gateway in front refuses a device.
        ExchangeError: everything else, by its kind.
    """
    status = response.status
    if status == 200:
        return
    if gateway is not None and status in gateway.refusals:
        raise GatewayRefused
    if status == 403:
        raise Forbidden
    if status in (429, 503):
        # 429 is said to a user, 503 of the server: see `limits`.
        asked = response.headers.get("retry-after", "")
        default_s = BRIEF_BACK_OFF_S if status == 503 else DEFAULT_BACK_OFF_S
        raise ServerBusy(_retry_after_s(asked, default_s), of_host=status == 503)
    if status in (502, 504):
        raise Unreachable
    if status in _REDIRECTS:
        raise Moved(response.headers.get("location", ""))
    # A fault in a 500 is read by the operation; any other body there is found to be no SOAP.
    if status != 500:
        raise NotEws


def _retry_after_s(value: str, default_s: float) -> float:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3), at most an hour."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), MAX_BACK_OFF_S)
    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return default_s
    return min(max(seconds, 0.0), MAX_BACK_OFF_S)
