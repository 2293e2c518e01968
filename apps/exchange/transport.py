"""How a request reaches a mail server: who is told who we are, over which connection.

Operations (`apps.exchange.ews`) are bytes out and bytes in; everything about connections, TLS,
the address guard, authentication and HTTP statuses stands here.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from apps.exchange import guard
from apps.exchange.errors import (
    BRIEF_BACK_OFF_S,
    DEFAULT_BACK_OFF_S,
    MAX_BACK_OFF_S,
    AddressForbidden,
    CredentialsRefused,
    ExchangeError,
    Forbidden,
    GatewayRefused,
    Moved,
    NotEws,
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


class Transport:
    """Requests to any number of mail servers for any number of users, in one event loop.

    Connections are shared between users: Basic authenticates each request, and it alone.

    Args:
        version: of ENS, for the user agent, which administrators put on lists.
        max_host_connections: connections to one host at most, 0 for no limit.
    """

    def __init__(self, version: str, *, max_host_connections: int = 0) -> None:
        self._agent = f"MailNotificationService/v2 (EWS/{version})"
        self._max_host_connections = max_host_connections
        # A connection made under lenient rules must not serve an endpoint with strict ones.
        self._clients: dict[_Policy, Client] = {}

    async def post(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> Response:
        """Send a SOAP request as the owner of the credentials; the answer is SOAP, as far as known.

        Raises:
            CredentialsRefused: 401; never tried again here, which could lock the account.
            ExchangeError: everything else that is not 200 or 500, by its kind.
        """
        request = Request(
            "POST",
            endpoint.url,
            (
                ("Authorization", _authorization(credentials)),
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
        try:
            response = await self._client(endpoint).perform(request)
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
        for client in clients.values():
            await client.close()

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


def _authorization(credentials: Credentials) -> str:
    """Basic, RFC 7617, in UTF-8."""
    pair = f"{credentials.username}:{credentials.password}".encode(errors="replace")
    return f"Basic {b64encode(pair).decode()}"


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
        CredentialsRefused: 401; never tried again here, which could lock the account.
        GatewayRefused: one of the statuses by which a gateway in front refuses a device.
        ExchangeError: everything else, by its kind.
    """
    status = response.status
    if status == 200:
        return
    if gateway is not None and status in gateway.refusals:
        raise GatewayRefused
    if status == 401:
        raise CredentialsRefused
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
