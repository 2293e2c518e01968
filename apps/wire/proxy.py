"""Tunnels through an HTTP proxy (CONNECT, RFC 9110, section 9.3.6), also for a Windows account.

The wheel's libcurl knows Negotiate but not NTLM, and not the same on every platform. So the
tunnel is made here, by pyspnego where Windows logs in (SSPI on Windows itself), and libcurl is
given a socket that is connected already: it keeps it alive as any other, TLS goes end to end, and
what a proxy costs is paid once a connection.
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import spnego

from apps.wire.errors import ProxyFailed
from apps.wire.target import AddressCheck, Targets

ProxyAuth = Literal["none", "basic", "ntlm", "negotiate"]

_LONGEST_HEAD: Final = 32 * 1024
_LONGEST_BODY: Final = 256 * 1024
# NTLM takes two rounds, Kerberos one or two.
_ROUNDS: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy listens and who we are to it.

    `basic` needs `user` and `password`. `ntlm` and `negotiate` take `DOMAIN\\user` or
    `user@domain`; without a user they log in as the account this process runs under (Windows) or
    with its Kerberos tickets.
    """

    host: str
    port: int
    auth: ProxyAuth = "none"
    user: str = field(repr=False, default="")
    password: str = field(repr=False, default="")


async def tunnel_to(
    url: str, proxy: Proxy, targets: Targets | None, check: AddressCheck | None
) -> socket.socket:
    """The tunnel for a request to this URL; the host is judged first where `targets` are given.

    Raises:
        AddressRefused, ProtocolFailed: see `Targets.check`.
        ProxyFailed: see `tunnel`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if targets is not None:
        await targets.check(host)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return await tunnel(proxy, host, port, check)


async def tunnel(
    proxy: Proxy, host: str, port: int, check: AddressCheck | None = None
) -> socket.socket:
    """A connected, non-blocking socket whose other end is `host`, which the proxy looks up.

    `check` is called with each address of the proxy before a connection to it is made; one for
    which it raises is not used.

    Raises:
        ProxyFailed: the proxy is away, refuses us or the host, or isn't one; with the code
            `proxy_address_refused` all its addresses were refused.
    """
    loop = asyncio.get_running_loop()
    connection = await _connect(loop, proxy, check)
    try:
        await _log_in(
            loop, connection, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(
    loop: asyncio.AbstractEventLoop, proxy: Proxy, check: AddressCheck | None
) -> socket.socket:
    try:
        found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except OSError:
        raise ProxyFailed("proxy_not_found") from None
    permitted = [each for each in found if check is None or _passes(check, each[4][0])]
    if not permitted:
        raise ProxyFailed("proxy_address_refused")
    for family, kind, protocol, _, address in permitted:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise ProxyFailed("proxy_unreachable")


def _passes(check: AddressCheck, address: str | int) -> bool:
    try:
        check(ip_address(address))
    except Exception:  # noqa: BLE001 - a check that fails must refuse, whatever it raised
        return False
    return True


async def _log_in(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, proxy: Proxy, target: str
) -> None:
    login = _Login(proxy)
    # The first step of Kerberos may ask a domain controller.
    authorization = await asyncio.to_thread(login.begin)
    for _ in range(_ROUNDS):
        await _send(loop, connection, _request(target, authorization))
        answer = await _read_answer(loop, connection)
        if 200 <= answer.status < 300:
            if answer.rest:
                raise ProxyFailed("proxy_malformed")
            return
        if answer.status == 401 and proxy.auth != "none":
            raise ProxyFailed("proxy_login_refused")  # tinyproxy's word for a wrong password
        if answer.status != 407:
            raise ProxyFailed("proxy_refused")
        authorization = await asyncio.to_thread(login.go_on, answer.challenges)
        await answer.skip_body(loop, connection)
    raise ProxyFailed("proxy_login_refused")


def _request(target: str, authorization: str) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", "Proxy-Connection: keep-alive"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Login:
    """One login: what we say first, and what to each challenge."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._context: spnego.ContextProxy | None = None
        self._scheme = {"ntlm": "NTLM", "negotiate": "Negotiate"}.get(proxy.auth, "")

    def begin(self) -> str:
        """The first Proxy-Authorization; empty for none."""
        proxy = self._proxy
        if proxy.auth == "basic":
            return "Basic " + b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        if not self._scheme:
            return ""
        with _spnego_errors():
            self._context = spnego.client(
                proxy.user or None,
                proxy.password or None,
                hostname=proxy.host,
                service="HTTP",
                protocol=proxy.auth,
            )
            return self._next(None)

    def go_on(self, challenges: list[str]) -> str:
        """The answer to a 407; raises ProxyFailed where there is none."""
        offered = [each.partition(" ") for each in challenges]
        tokens = [token.strip() for name, _, token in offered if name == self._scheme]
        if self._context is None or not tokens:
            known = any(name.lower() == (self._scheme or "basic").lower() for name, _, _ in offered)
            refused = known and self._proxy.auth != "none"
            raise ProxyFailed("proxy_login_refused" if refused else "proxy_wants_other_login")
        if not tokens[0] or self._context.complete:
            raise ProxyFailed("proxy_login_refused")
        try:
            challenge = b64decode(tokens[0], validate=True)
        except ValueError:
            raise ProxyFailed("proxy_malformed") from None
        with _spnego_errors():
            return self._next(challenge)

    def _next(self, challenge: bytes | None) -> str:
        assert self._context is not None
        token = self._context.step(challenge)
        if not token:
            raise ProxyFailed("proxy_login_refused")
        return f"{self._scheme} {b64encode(token).decode()}"


@contextmanager
def _spnego_errors() -> Iterator[None]:
    """Its errors come in many kinds (a malformed challenge raises whatever), and name accounts."""
    try:
        yield
    except ProxyFailed:
        raise
    except Exception:  # noqa: BLE001 - see above
        raise ProxyFailed("proxy_login_impossible") from None


@dataclass(slots=True)
class _Answer:
    status: int
    challenges: list[str]
    length: int | None
    rest: bytes

    async def skip_body(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        """Read to the end of the refusal's page: the next answer follows it."""
        if self.length is None or self.length > _LONGEST_BODY:
            raise ProxyFailed("proxy_malformed")
        left = self.length - len(self.rest)
        while left > 0:
            left -= len(await _receive(loop, connection, min(left, 65536)))
        if left < 0:
            raise ProxyFailed("proxy_malformed")


async def _read_answer(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> _Answer:
    read = b""
    while b"\r\n\r\n" not in read:
        if len(read) > _LONGEST_HEAD:
            raise ProxyFailed("proxy_malformed")
        read += await _receive(loop, connection, 4096)
    head, _, rest = read.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise ProxyFailed("proxy_malformed")
    challenges: list[str] = []
    length: int | None = 0
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "proxy-authenticate":
            challenges.append(value)
        elif name == "content-length":
            length = int(value) if re.fullmatch("[0-9]{1,9}", value) else None
        elif name == "transfer-encoding":
            length = None
    return _Answer(int(status[1]), challenges, length, rest)


async def _receive(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, at_most: int
) -> bytes:
    try:
        part = await loop.sock_recv(connection, at_most)
    except OSError:
        part = b""
    if not part:
        raise ProxyFailed("proxy_hung_up")
    return part


async def _send(loop: asyncio.AbstractEventLoop, connection: socket.socket, data: bytes) -> None:
    try:
        await loop.sock_sendall(connection, data)
    except OSError:
        raise ProxyFailed("proxy_hung_up") from None
