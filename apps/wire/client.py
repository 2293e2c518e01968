"""An asyncio client on pycurl's multi interface: hundreds of requests in one thread, cheaply.

libcurl owns connections, TLS, HTTP/2 and deadlines; asyncio tells it which sockets are ready
(`CURLMOPT_SOCKETFUNCTION`, `CURLMOPT_TIMERFUNCTION`, `curl_multi_socket_action`:
https://curl.se/libcurl/c/curl_multi_socket_action.html). A request costs one pooled easy handle
and about twenty option calls of a fifth of a microsecond.

What it never does: follow a redirect, keep a cookie, read the environment, send credentials that
the caller has not written into a header itself. A proxy it uses only where it was given one
(`proxy.py`): it is asked for a tunnel when libcurl finds no connection to use again.

The event loop must have `add_reader`; on Windows that is the SelectorEventLoop only, whose
`select()` takes 512 sockets, hence `MAX_CONNECTIONS`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from typing import Any, Literal

import pycurl

from apps.wire.errors import (
    AddressRefused,
    ConnectFailed,
    DeadlineExceeded,
    ProtocolFailed,
    ResponseTooLarge,
    TlsFailed,
    WireError,
)
from apps.wire.proxy import Proxy, tunnel_to
from apps.wire.target import AddressCheck, Targets
from apps.wire.trust import trust_options

__all__ = [
    "AddressCheck",
    "AddressRefused",
    "BodyTaker",
    "Client",
    "ConnectFailed",
    "DeadlineExceeded",
    "Peer",
    "ProtocolFailed",
    "Request",
    "Response",
    "ResponseTooLarge",
    "Tls",
    "TlsFailed",
    "TlsFloor",
    "WireError",
]

# What is called when a transfer has ended: with None, or with libcurl's error number and text.
Settle = Callable[[tuple[int, str] | None], None]
# Given an answer's status and headers: who takes its body, part by part, or None to keep it whole.
BodyTaker = Callable[[int, Mapping[str, str]], Callable[[bytes], None] | None]

TlsFloor = Literal["1.0", "1.1", "1.2"]

MAX_CONNECTIONS = 200 if sys.platform == "win32" else 1000
_MAX_IDLE_HANDLES = 1000
_MAX_STREAMS = 1000
# A connection that takes longer to its first answer must not hold up the others.
_NEWCOMER_S = 2.0
# Hold back segments that aren't full: tcp(7), Linux only.
_CORK: int = getattr(socket, "TCP_CORK", 0)
_PROTOCOLS = {"http": pycurl.PROTO_HTTP, "https": pycurl.PROTO_HTTPS}
_URL = re.compile(r"([A-Za-z]+)://[^/?#@\\\x00-\x20\x7f-\U0010ffff]+(?:[/?#][\x21-\x7e]*)?")
_NOT_IN_HEADER = re.compile(r"[\r\n\x00]")


@dataclass(frozen=True, slots=True)
class Tls:
    """How the peer is verified, and who we are.

    `ca_pem`: private CAs in PEM, in addition to the system's. `pins`: base64 SHA-256 of the
    SubjectPublicKeyInfo; any one of them must match the peer's certificate. Empty: no pinning.
    `client_pem`: our certificate, then its issuers, and its private key without a password, all
    in PEM; empty for none. A connection made with one is never used for requests with another.
    `floor`: the oldest version of TLS that will do. Below 1.2 the peer may also use what goes with
    these (SHA-1 in handshakes, short keys): RFC 8996 says why nobody should.
    """

    ca_pem: str = ""
    pins: tuple[str, ...] = ()
    client_pem: bytes = field(repr=False, default=b"")
    floor: TlsFloor = "1.2"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    `deadline_s` is total, from the call of `perform` to the last byte, time in line for a
    connection included. `http2` offers h2 by ALPN and waits for a connection that can be
    shared; a peer that doesn't speak it is talked to in HTTP/1.1. `ask_peer` is for those who
    log connections in: the answer then tells of its connection (`Response.peer`).
    """

    method: str
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False, default=())
    body: bytes = field(repr=False, default=b"")
    deadline_s: float = 20.0
    max_response_bytes: int = 4 * 1024 * 1024
    http2: bool = False
    tls: Tls = Tls()
    schemes: tuple[str, ...] = ("https",)
    ask_peer: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """The connection of an answer: whether it was made for it, and then the peer's certificate.

    `certificate` is in PEM; empty where the connection was there before, and without TLS.
    """

    new: bool
    certificate: str


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer of any status. Header names are lower-case; repeated ones are joined.

    `body` is empty where somebody took it part by part; `peer` is None where nobody asked.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    peer: Peer | None = None


class _Socket(socket.socket):
    """The socket handed to libcurl, which duplicates it: ours ends with the callback."""

    def __del__(self) -> None:
        self.close()


class _Transfer:
    """One request under way."""

    __slots__ = (
        "body",
        "check",
        "error",
        "future",
        "head",
        "permitted",
        "refused",
        "spoilt",
        "take",
        "taker",
        "tunnel",
        "tunnel_wanted",
        "tunnelled",
    )

    def __init__(
        self,
        future: asyncio.Future[None],
        check: AddressCheck | None,
        take: BodyTaker | None = None,
    ) -> None:
        self.future = future
        self.check = check
        self.take = take
        self.taker: Callable[[bytes], object] | None = None
        self.spoilt: Exception | None = None
        # Where it must go through a proxy: a tunnel for libcurl to take, if it is made already.
        self.tunnelled = self.tunnel_wanted = False
        self.tunnel: socket.socket | None = None
        self.head: list[bytes] = []
        self.body: list[bytes] = []
        self.error: tuple[int, str] | None = None
        self.permitted = self.refused = False

    def settle(self, error: tuple[int, str] | None) -> None:
        """The transfer has ended; whoever waits goes on."""
        if not self.future.done():
            self.error = error
            self.future.set_result(None)

    def open_socket(self, _purpose: int, address: Any) -> Any:
        """Called by libcurl before it connects, once for each address it tries."""
        family, kind, protocol, peer = address
        try:
            assert self.check is not None
            self.check(ip_address(peer[0]))
        except Exception:  # noqa: BLE001 - a check that fails must refuse, whatever it raised
            self.refused = True
            return pycurl.SOCKET_BAD
        self.permitted = True
        return _Socket(family, kind, protocol)

    def take_tunnel(self, _purpose: int, _address: Any) -> Any:
        """Called by libcurl when it needs a connection: the tunnel, or a reason to make one."""
        if self.tunnel is None:
            self.tunnel_wanted = True
            return pycurl.SOCKET_BAD
        taken, self.tunnel = self.tunnel, None
        return _Socket(fileno=taken.detach())

    def hand_over(self, part: bytes) -> int | None:
        """Called by libcurl with what has come of the body; 0 ends the transfer."""
        try:
            if self.taker is None:
                assert self.take is not None
                self.taker = self.take(*status_and_headers(self.head)) or self.body.append
            self.taker(part)
        except Exception as error:  # noqa: BLE001 - `perform` raises it where the caller sees it
            self.spoilt = error
            return 0
        return None


class _TunnelWanted(WireError):
    """libcurl needs a new connection, and nothing was sent."""


class Client:
    """Connections shared by all requests of one purpose, used from one event loop.

    Args:
        check_address: called with every address before a connection to it is made; raises
            `AddressRefused` (anything it raises refuses). A connection made is used again
            without asking: clients with different rules must be different clients. With a proxy
            it judges the hosts that the proxy is asked for, as far as it can be done here
            (`target.py`): what the proxy connects to in the end, only the proxy sees.
        max_host_connections: connections to one host at most, 0 for no limit; further requests
            wait in line (HTTP/1.1) or share (HTTP/2).
        max_connections: connections altogether, busy and kept alive.
        together: send what many requests write in the same moment in as few packets as it fits
            into, where the system can do that (Linux). For many small requests on few connections.
        proxy: the only way out; host names are looked up there.
        check_proxy: the same as `check_address` for the addresses of the proxy itself.
        newcomers_alone: HTTP/2: while a new connection waits for its first answer, no connection
            takes more than one request and none is opened beside it. Before that answer libcurl
            doesn't know how many the server allows, sends a hundred, and gives the connection up
            when some are refused. APNs allows one until it has accepted it. Neither with
            `check_address` nor with `proxy`.
    """

    def __init__(
        self,
        check_address: AddressCheck | None = None,
        *,
        max_host_connections: int = 0,
        max_connections: int = MAX_CONNECTIONS,
        together: bool = False,
        proxy: Proxy | None = None,
        check_proxy: AddressCheck | None = None,
        newcomers_alone: bool = False,
    ) -> None:
        if newcomers_alone and (check_address is not None or proxy is not None):
            raise ValueError("newcomers can't be told apart here")
        self._check = check_address
        self._proxy, self._check_proxy = proxy, check_proxy
        self._targets = Targets(check_address) if check_address and proxy else None
        self._max_host_connections = max_host_connections
        self._newcomers_alone = newcomers_alone
        # By id: a set of handles that hold a callback of ours would keep itself alive.
        self._newcomers: set[int] = set()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, _MAX_STREAMS)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, max_host_connections)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, max_connections)
        # Without it libcurl keeps four times the running requests, and a lull closes them all.
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._running: dict[Any, Settle] = {}
        self._idle: list[Any] = []
        self._watched: dict[int, int] = {}
        self._corks: dict[int, socket.socket] | None = {} if together and _CORK else None
        self._closed = False

    async def perform(self, request: Request, take: BodyTaker | None = None) -> Response:
        """Send the request and return its whole answer.

        With `take` the body is handed over as it comes, so that of an answer that breaks off the
        beginning is not lost. It is called from within libcurl, in the event loop: it must be
        quick and must not call this client. What it raises ends the request and is raised here.

        Raises:
            AddressRefused: the check refused the host's addresses; no connection to it was made.
            ConnectFailed: no such host, no connection, or it was lost; ProxyFailed: the proxy.
            TlsFailed: the peer's certificate isn't trusted, isn't pinned, or the handshake broke.
            DeadlineExceeded: `deadline_s` passed.
            ResponseTooLarge: the body is larger than `max_response_bytes`.
            ProtocolFailed: the answer isn't HTTP, or the request's URL or headers are malformed.
        """
        loop = self.bind()
        if request.deadline_s <= 0:
            raise DeadlineExceeded
        if self._proxy is None:
            return await self._attempt(request, take)
        ends = loop.time() + request.deadline_s
        with suppress(_TunnelWanted):
            return await self._attempt(request, take, tunnelled=True)
        way = await self._make_tunnel(self._proxy, request)
        try:
            left = max(0.001, ends - loop.time())
            again = replace(request, deadline_s=left)
            return await self._attempt(again, take, tunnelled=True, way=way)
        except _TunnelWanted:
            raise ConnectFailed("connection_lost") from None
        finally:
            way.close()

    async def _make_tunnel(self, proxy: Proxy, request: Request) -> socket.socket:
        try:
            async with asyncio.timeout(request.deadline_s):
                return await tunnel_to(request.url, proxy, self._targets, self._check_proxy)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _attempt(
        self,
        request: Request,
        take: BodyTaker | None,
        *,
        tunnelled: bool = False,
        way: socket.socket | None = None,
    ) -> Response:
        transfer = _Transfer(asyncio.get_running_loop().create_future(), self._check, take)
        transfer.tunnelled, transfer.tunnel = tunnelled, way
        handle = self._idle.pop() if self._idle else pycurl.Curl()
        try:
            _prepare(handle, request, transfer)
            self.note_connections(handle)
            self.add(handle, transfer.settle)
            await transfer.future
            if transfer.spoilt is not None:
                raise transfer.spoilt
            if transfer.error is not None:
                raise _error(transfer)
            return _response(handle, transfer, ask_peer=request.ask_peer)
        finally:
            self._release(handle)

    def add(self, handle: Any, settle: Settle) -> None:
        """Begin a transfer on a handle that is set up already; `posts.py` has such.

        `settle` is called in the event loop when it has ended and the handle is free again.
        """
        self._multi.add_handle(handle)
        self._running[handle] = settle

    def note_connections(self, handle: Any) -> None:
        """Let us know when a transfer on this handle opens a connection, where that matters."""
        if self._newcomers_alone:
            handle.setopt(pycurl.OPENSOCKETFUNCTION, partial(self._open_socket, id(handle)))

    def _open_socket(self, newcomer: int, _purpose: int, address: Any) -> Any:
        """Called by libcurl, which takes no new options meanwhile."""
        loop = self._loop
        if loop is not None and newcomer not in self._newcomers:
            self._newcomers.add(newcomer)
            loop.call_soon(self._limit_streams)
            loop.call_later(_NEWCOMER_S, self._no_newcomer, newcomer)
        family, kind, protocol, _ = address
        return _Socket(family, kind, protocol)

    def _no_newcomer(self, newcomer: int) -> None:
        if newcomer in self._newcomers:
            self._newcomers.discard(newcomer)
            self._limit_streams()

    def _limit_streams(self) -> None:
        """Once more may go, those that wait are looked at again at once."""
        if not self._closed:
            alone = bool(self._newcomers)
            self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, 1 if alone else _MAX_STREAMS)
            connections = 1 if alone else self._max_host_connections
            self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
            if not alone:
                # libcurl looks only when a handle leaves, and the one that was alone may hang.
                leaver = pycurl.Curl()
                self._multi.add_handle(leaver)
                self._multi.remove_handle(leaver)

    async def close(self) -> None:
        """Close every connection; requests under way fail with ConnectFailed."""
        if self._closed:
            return
        self._closed = True
        for handle in list(self._running):
            self._settle(handle, _CLOSED)
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in list(self._watched):
            self._unwatch(descriptor)
        self._idle.clear()
        # It waits for resolver threads, which hang for seconds where a name server is silent.
        await asyncio.to_thread(self._multi.close)

    def bind(self) -> asyncio.AbstractEventLoop:
        """The running loop, which must be the one of the first call; ConnectFailed when closed."""
        if self._closed:
            raise ConnectFailed("client_closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop")
        return loop

    def _release(self, handle: Any) -> None:
        if self._running.pop(handle, None) is not None:
            self._no_newcomer(id(handle))
            self._multi.remove_handle(handle)
        # Forgets headers and body too: an idle handle must not hold credentials or mail.
        handle.reset()
        if not self._closed and len(self._idle) < _MAX_IDLE_HANDLES:
            self._idle.append(handle)

    # --- between libcurl and the event loop: callbacks only note, `_act` does the work ---

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        loop = self._loop
        if loop is None or self._closed or loop.is_closed():
            return
        if what == pycurl.POLL_REMOVE:
            self._unwatch(descriptor)
            return
        before = self._watched.get(descriptor, 0)
        self._watched[descriptor] = what
        if self._corks is not None and not before:
            self._add_cork(descriptor)
        if what & pycurl.POLL_IN and not before & pycurl.POLL_IN:
            loop.add_reader(descriptor, self._act, descriptor, pycurl.CSELECT_IN)
        elif before & pycurl.POLL_IN and not what & pycurl.POLL_IN:
            loop.remove_reader(descriptor)
        if what & pycurl.POLL_OUT and not before & pycurl.POLL_OUT:
            loop.add_writer(descriptor, self._act, descriptor, pycurl.CSELECT_OUT)
        elif before & pycurl.POLL_OUT and not what & pycurl.POLL_OUT:
            loop.remove_writer(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        before = self._watched.pop(descriptor, 0)
        if self._corks and descriptor in self._corks:
            # libcurl's own, and about to be closed by it.
            self._corks.pop(descriptor).detach()
        if self._loop is None or self._loop.is_closed():
            return
        if before & pycurl.POLL_IN:
            self._loop.remove_reader(descriptor)
        if before & pycurl.POLL_OUT:
            self._loop.remove_writer(descriptor)

    def _set_timer(self, milliseconds: int) -> None:
        """Libcurl wants to be called in so many ms (-1: not at all); a later wish keeps the timer.

        Nearly every request moves this wish; waking once too often is cheaper than that many
        timers in asyncio's heap.
        """
        if milliseconds < 0 or self._loop is None or self._closed:
            self._due = None
            return
        self._due = self._loop.time() + milliseconds / 1000
        if self._timer is None or self._timer.when() > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._due is None or self._loop is None:
            return
        if self._due > self._loop.time():
            self._timer = self._loop.call_at(self._due, self._on_timer)
            return
        self._due = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, event: int) -> None:
        if self._closed:
            return
        if self._corks:
            running = self._act_together(descriptor, event)
        else:
            _, running = self._multi.socket_action(descriptor, event)
        if running < len(self._running):
            self._collect()

    def _act_together(self, descriptor: int, event: int) -> int:
        """libcurl writes each request by itself; the system sends them when all are written."""
        self._set_corks(1)
        _, running = self._multi.socket_action(descriptor, event)
        self._set_corks(0)
        return int(running)

    def _set_corks(self, held: int) -> None:
        for each in list((self._corks or {}).values()):
            with suppress(OSError):
                each.setsockopt(socket.IPPROTO_TCP, _CORK, held)

    def _add_cork(self, descriptor: int) -> None:
        assert self._corks is not None
        # libcurl also watches what wakes it, which is no socket.
        with suppress(OSError):
            self._corks[descriptor] = socket.socket(fileno=descriptor)

    def _collect(self) -> None:
        more = 1
        while more:
            more, succeeded, failed = self._multi.info_read()
            for handle in succeeded:
                self._settle(handle, None)
            for handle, number, text in failed:
                self._settle(handle, (number, text))

    def _settle(self, handle: Any, error: tuple[int, str] | None) -> None:
        settle = self._running.pop(handle)
        # Before the handle goes: that is when libcurl looks at those that wait.
        self._no_newcomer(id(handle))
        self._multi.remove_handle(handle)
        settle(error)


def _prepare(handle: Any, request: Request, transfer: _Transfer) -> None:
    """Set everything on a handle fresh from `reset()`.

    Raises:
        ProtocolFailed: `url_malformed`, `scheme_refused` or `header_malformed`.
    """
    match = _URL.fullmatch(request.url)
    if match is None:
        raise ProtocolFailed("url_malformed")
    scheme = match[1].lower()
    if scheme not in request.schemes or scheme not in _PROTOCOLS:
        raise ProtocolFailed("scheme_refused")
    setopt = handle.setopt
    setopt(pycurl.URL, request.url)
    setopt(pycurl.PROTOCOLS, _PROTOCOLS[scheme])
    setopt(pycurl.PROXY, "")
    setopt(pycurl.NOSIGNAL, 1)
    setopt(pycurl.HTTPHEADER, header_lines(request.headers))
    setopt(pycurl.TIMEOUT_MS, max(1, int(request.deadline_s * 1000)))
    setopt(pycurl.MAXFILESIZE_LARGE, request.max_response_bytes)
    setopt(pycurl.HEADERFUNCTION, transfer.head.append)
    taken = transfer.take is not None
    setopt(pycurl.WRITEFUNCTION, transfer.hand_over if taken else transfer.body.append)
    if transfer.check is not None:
        setopt(pycurl.OPENSOCKETFUNCTION, transfer.open_socket)
    if transfer.tunnelled:
        # No name is looked up and nothing connected here: the address is never used.
        setopt(pycurl.CONNECT_TO, ["::127.0.0.1:9"])
        setopt(pycurl.OPENSOCKETFUNCTION, transfer.take_tunnel)
        setopt(pycurl.SOCKOPTFUNCTION, _is_connected)
    if request.body or request.method in ("POST", "PUT"):
        setopt(pycurl.POSTFIELDS, request.body)
    if request.method == "HEAD":
        setopt(pycurl.NOBODY, 1)
    else:
        setopt(pycurl.CUSTOMREQUEST, request.method)
    if request.http2:
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        setopt(pycurl.PIPEWAIT, 1)
    else:
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    if scheme == "https":
        prepare_tls(setopt, request.tls)
    if request.ask_peer:
        setopt(pycurl.OPT_CERTINFO, 1)
        # Of a session that is resumed libcurl may not know the certificate.
        setopt(pycurl.SSL_SESSIONID_CACHE, 0)


def _is_connected(_socket: Any, _purpose: int) -> int:
    return int(pycurl.SOCKOPT_ALREADY_CONNECTED)


_FLOORS: dict[TlsFloor, int] = {
    "1.0": pycurl.SSLVERSION_TLSv1_0,
    "1.1": pycurl.SSLVERSION_TLSv1_1,
    "1.2": pycurl.SSLVERSION_TLSv1_2,
}


def set_tls_floor(setopt: Callable[[int, Any], None], floor: TlsFloor) -> None:
    """Set on a handle the oldest version of TLS that will do."""
    setopt(pycurl.SSLVERSION, _FLOORS[floor])
    if floor != "1.2":
        # OpenSSL 3 has SHA-1 with these versions at its lowest level only.
        setopt(pycurl.SSL_CIPHER_LIST, "DEFAULT:@SECLEVEL=0")


def prepare_tls(setopt: Callable[[int, Any], None], tls: Tls) -> None:
    """Set on a handle how the peer is verified, and who we are."""
    set_tls_floor(setopt, tls.floor)
    for option, value in trust_options(tls.ca_pem):
        setopt(option, value)
    if tls.pins:
        setopt(pycurl.PINNEDPUBLICKEY, ";".join(f"sha256//{pin}" for pin in tls.pins))
    if tls.client_pem:
        setopt(pycurl.SSLCERT_BLOB, tls.client_pem)
        setopt(pycurl.SSLKEY_BLOB, tls.client_pem)
        # A session that is resumed would bring along the certificate it began with.
        setopt(pycurl.SSL_SESSIONID_CACHE, 0)


# libcurl and pycurl would add these.
_NOT_OF_LIBCURL = (b"Accept:", b"Content-Type:", b"Expect:", b"User-Agent:")


def header_lines(headers: Iterable[tuple[str, str]]) -> list[bytes]:
    """The caller's headers for libcurl, without the ones that it would add; ProtocolFailed."""
    return [*_NOT_OF_LIBCURL, *(header_line(name, value) for name, value in headers)]


def header_line(name: str, value: str) -> bytes:
    """One header for libcurl.

    Raises:
        ProtocolFailed: `header_malformed`: a line break or a NUL in it.
    """
    # A value-less "Name:" would remove the header; "Name;" sends it empty.
    line = f"{name}: {value}" if value else f"{name};"
    # The quick question first: this runs several times a push.
    if not line.isprintable() and _NOT_IN_HEADER.search(line):
        raise ProtocolFailed("header_malformed")
    return line.encode()


def _response(handle: Any, transfer: _Transfer, *, ask_peer: bool) -> Response:
    _, headers = status_and_headers(transfer.head)
    peer = _peer(handle) if ask_peer else None
    return Response(handle.getinfo(pycurl.RESPONSE_CODE), headers, b"".join(transfer.body), peer)


def _peer(handle: Any) -> Peer:
    """https://curl.se/libcurl/c/CURLINFO_CERTINFO.html: for each certificate names and values."""
    chain = handle.getinfo_raw(pycurl.INFO_CERTINFO)
    leaf = dict(chain[0]) if chain else {}
    pem = leaf.get(b"Cert", b"").decode("ascii", "replace")
    return Peer(new=handle.getinfo(pycurl.NUM_CONNECTS) > 0, certificate=pem)


def status_and_headers(head: list[bytes]) -> tuple[int, dict[str, str]]:
    """Of the lines of an answer's head, interim answers (1xx) before it left out."""
    status = 0
    headers: dict[str, str] = {}
    again: dict[str, list[str]] = {}
    for line in head:
        if line.startswith(b"HTTP/"):
            # What came before was an interim answer (1xx). libcurl has checked the line.
            headers.clear()
            again.clear()
            status = int(line.split(b" ", 2)[1][:3])
            continue
        name, separator, value = line.decode("latin-1").partition(":")
        if separator:
            key, value = name.strip().lower(), value.strip()
            if key in headers:
                # Put together at the end: one after the other takes time by the square.
                again.setdefault(key, [headers[key]]).append(value)
            else:
                headers[key] = value
    for key, values in again.items():
        headers[key] = ", ".join(values)
    return status, headers


# CURLE_HTTP2_STREAM, which pycurl has no name for: a stream that the peer has reset.
_E_HTTP2_STREAM = 92

# How OpenSSL tells what the peer thinks of the certificate that we sent, or didn't.
_OUR_CERTIFICATE = re.compile(
    r"alert (?:(?:bad |un\w+ )?certificate|unknown ca)|certificate required"
)

_CLOSED = (-1, "")

_ERRORS: dict[int, tuple[type[WireError], str]] = {
    -1: (ConnectFailed, "client_closed"),
    pycurl.E_OPERATION_TIMEDOUT: (DeadlineExceeded, ""),
    pycurl.E_FILESIZE_EXCEEDED: (ResponseTooLarge, ""),
    pycurl.E_COULDNT_RESOLVE_HOST: (ConnectFailed, "host_not_found"),
    pycurl.E_COULDNT_CONNECT: (ConnectFailed, "connect_failed"),
    pycurl.E_GOT_NOTHING: (ConnectFailed, "connection_lost"),
    pycurl.E_SEND_ERROR: (ConnectFailed, "connection_lost"),
    pycurl.E_RECV_ERROR: (ConnectFailed, "connection_lost"),
    pycurl.E_PARTIAL_FILE: (ConnectFailed, "connection_lost"),
    pycurl.E_HTTP2: (ConnectFailed, "connection_lost"),
    _E_HTTP2_STREAM: (ConnectFailed, "connection_lost"),
    pycurl.E_SSL_CONNECT_ERROR: (TlsFailed, "tls_failed"),
    pycurl.E_PEER_FAILED_VERIFICATION: (TlsFailed, "tls_untrusted"),
    pycurl.E_SSL_PINNEDPUBKEYNOTMATCH: (TlsFailed, "tls_pin_mismatch"),
    pycurl.E_SSL_CACERT_BADFILE: (TlsFailed, "ca_malformed"),
    pycurl.E_SSL_CERTPROBLEM: (TlsFailed, "client_certificate_unusable"),
    # Of a key that is missing or isn't the certificate's.
    pycurl.E_BAD_FUNCTION_ARGUMENT: (TlsFailed, "client_certificate_unusable"),
    pycurl.E_URL_MALFORMAT: (ProtocolFailed, "url_malformed"),
}


def _error(transfer: _Transfer) -> WireError:
    """The typed error; libcurl's own text names hosts and is dropped."""
    assert transfer.error is not None
    number = transfer.error[0]
    if transfer.tunnel_wanted:
        return _TunnelWanted()
    # Of a host with several addresses, one that may be called and is slow is no refusal.
    if _OUR_CERTIFICATE.search(transfer.error[1]):
        return TlsFailed("client_certificate_refused")
    refused = transfer.refused and not transfer.permitted
    if refused and number in (pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT):
        return AddressRefused()
    return error_of(number)


def error_of(number: int) -> WireError:
    """The typed error for one of libcurl's numbers; its text names hosts and is left out."""
    kind, code = _ERRORS.get(number, (ProtocolFailed, f"curl_{number}"))
    return kind(code)
