"""Fetches the certificates that a host shows, whether they are trusted or not, and a first answer.

For people who set things up: what to pin, what expires, why a host isn't trusted. It blocks; the
same address check stands in front as of every request.
"""

from __future__ import annotations

import io
import socket
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import pycurl
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from apps.wire import background
from apps.wire.client import TlsFloor, set_tls_floor
from apps.wire.errors import (
    AddressRefused,
    ConnectFailed,
    DeadlineExceeded,
    ProtocolFailed,
    TlsFailed,
    WireError,
)
from apps.wire.pins import spki_pin
from apps.wire.proxy import Proxy, tunnel_to
from apps.wire.target import AddressCheck, Targets
from apps.wire.trust import trust_options

_MOST_BYTES: Final = 64 * 1024
_TUNNEL_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a chain. `pin`: base64 SHA-256 of its SubjectPublicKeyInfo (RFC 7469)."""

    subject: str
    issuer: str
    pin: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    self_signed: bool
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a host shows: its own certificate first. `trusted`: the chain, whatever the name."""

    chain: tuple[Certificate, ...]
    trusted: bool
    name_matches: bool


@dataclass(frozen=True, slots=True)
class Via:
    """What else is on the way: a proxy, whose own address `check_proxy` judges, and the oldest TLS.

    The same as a `Client` is told, for what is fetched here.
    """

    proxy: Proxy | None = None
    check_proxy: AddressCheck | None = None
    floor: TlsFloor = "1.2"


_DIRECT: Final = Via()


@dataclass(frozen=True, slots=True)
class Answer:
    """A first answer: status, and the headers that came, in lower case, each with its values."""

    status: int
    headers: dict[str, tuple[str, ...]]
    body: bytes = field(repr=False)


def addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """The addresses that a name has, as this machine sees it.

    Raises:
        ConnectFailed: `host_not_found`.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ConnectFailed("host_not_found") from None
    unique = dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found)
    return [ip_address(one) for one in unique]


def fetch(
    url: str,
    check: AddressCheck,
    ca_pem: str = "",
    *,
    via: Via = _DIRECT,
    deadline_s: float = 8.0,
) -> Shown:
    """The certificates that the host of an https address shows; asks three times, sends nothing.

    Args:
        url: its path counts for nothing.
        check: raises for an address that must not be connected.
        ca_pem: private CAs to trust besides the system's.
        via: proxy and TLS.
        deadline_s: for each of the three.

    Raises:
        WireError: no connection, no TLS, or an address that the check refuses.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ProtocolFailed("scheme_not_permitted")
    base = f"https://{parts.netloc.rpartition('@')[2]}/"
    handle = _handle(base, via, deadline_s)
    handle.setopt(pycurl.OPT_CERTINFO, 1)
    _perform(handle, base, check, via)
    pems = [value for one in handle.getinfo(pycurl.INFO_CERTINFO) for value in _pem(one)]
    handle.close()
    if not pems:
        raise TlsFailed("no_certificate")
    return Shown(
        chain=tuple(_certificate(pem) for pem in pems),
        trusted=_verifies(base, check, ca_pem, via, deadline_s, name=False),
        name_matches=_verifies(base, check, ca_pem, via, deadline_s, name=True, chain=False),
    )


def ask(
    url: str,
    check: AddressCheck,
    *,
    method: str = "GET",
    headers: tuple[str, ...] = (),
    via: Via = _DIRECT,
    deadline_s: float = 8.0,
) -> Answer:
    """What a host answers to a request without credentials; its certificate is not looked at.

    For finding out how far one gets. Nothing that is sent or comes back is to be relied upon.

    Raises:
        WireError: no answer, or an address that the check refuses.
    """
    handle = _handle(url, via, deadline_s)
    lines: list[bytes] = []
    body = io.BytesIO()

    def take(part: bytes) -> int:
        body.write(part[: max(0, _MOST_BYTES - body.tell())])
        return len(part)

    handle.setopt(pycurl.CONNECT_ONLY, 0)
    handle.setopt(pycurl.CUSTOMREQUEST, method)
    handle.setopt(pycurl.HTTPHEADER, list(headers))
    handle.setopt(pycurl.HEADERFUNCTION, lines.append)
    handle.setopt(pycurl.WRITEFUNCTION, take)
    handle.setopt(pycurl.MAXFILESIZE, 1024 * 1024)
    try:
        _perform(handle, url, check, via)
    except ProtocolFailed:
        # A server that closes without saying so has answered all the same.
        if not handle.getinfo(pycurl.RESPONSE_CODE):
            raise
    status = int(handle.getinfo(pycurl.RESPONSE_CODE))
    handle.close()
    found: dict[str, tuple[str, ...]] = {}
    for line in lines[:200]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            key = name.strip().lower()
            found[key] = (*found.get(key, ()), value.strip())
    return Answer(status, found, body.getvalue())


def _handle(url: str, via: Via, deadline_s: float) -> Any:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.CONNECT_ONLY, 1)
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.FRESH_CONNECT, 1)
    handle.setopt(pycurl.TIMEOUT_MS, int(deadline_s * 1000))
    handle.setopt(pycurl.SSL_VERIFYPEER, 0)
    handle.setopt(pycurl.SSL_VERIFYHOST, 0)
    set_tls_floor(handle.setopt, via.floor)
    return handle


def _perform(handle: Any, url: str, check: AddressCheck, via: Via) -> None:
    if via.proxy is None:
        _perform_direct(handle, check)
        return
    making = tunnel_to(url, via.proxy, Targets(check), via.check_proxy)
    try:
        way = background.run(making, _TUNNEL_S)
    except TimeoutError:
        raise DeadlineExceeded from None
    handle.setopt(pycurl.CONNECT_TO, ["::127.0.0.1:9"])  # never used: the tunnel is there
    handle.setopt(pycurl.SOCKOPTFUNCTION, lambda *_socket: pycurl.SOCKOPT_ALREADY_CONNECTED)
    handle.setopt(pycurl.OPENSOCKETFUNCTION, lambda *_asked: _Socket(fileno=way.detach()))
    try:
        handle.perform()
    except pycurl.error as error:
        raise _translated(int(error.args[0])) from None
    finally:
        way.close()


def _perform_direct(handle: Any, check: AddressCheck) -> None:
    refused = permitted = False

    def open_socket(_purpose: int, address: Any) -> Any:
        nonlocal refused, permitted
        family, kind, protocol, peer = address
        try:
            check(ip_address(peer[0]))
        except Exception:  # noqa: BLE001 - a check that fails must refuse, whatever it raised
            refused = True
            return pycurl.SOCKET_BAD
        permitted = True
        return _Socket(family, kind, protocol)

    handle.setopt(pycurl.OPENSOCKETFUNCTION, open_socket)
    try:
        handle.perform()
    except pycurl.error as error:
        # Of several addresses, what became of the permitted one tells more.
        if refused and not permitted:
            raise AddressRefused from None
        raise _translated(int(error.args[0])) from None


class _Socket(socket.socket):
    """The socket handed to libcurl, which duplicates it: ours ends with the callback."""

    def __del__(self) -> None:
        self.close()


def _translated(number: int) -> WireError:
    if number == pycurl.E_OPERATION_TIMEDOUT:
        return DeadlineExceeded()
    if number == pycurl.E_COULDNT_RESOLVE_HOST:
        return ConnectFailed("host_not_found")
    if number == pycurl.E_COULDNT_CONNECT:
        return ConnectFailed()
    if number in (pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION):
        return TlsFailed()
    return ProtocolFailed()


def _verifies(
    base: str,
    check: AddressCheck,
    ca_pem: str,
    via: Via,
    deadline_s: float,
    *,
    name: bool,
    chain: bool = True,
) -> bool:
    handle = _handle(base, via, deadline_s)
    handle.setopt(pycurl.SSL_VERIFYPEER, 1 if chain else 0)
    handle.setopt(pycurl.SSL_VERIFYHOST, 2 if name else 0)
    for option, value in trust_options(ca_pem):
        handle.setopt(option, value)
    try:
        _perform(handle, base, check, via)
    except TlsFailed:
        return False
    finally:
        handle.close()
    return True


def _pem(fields: Any) -> list[str]:
    return [str(value) for name, value in fields if name == "Cert"]


def _certificate(pem: str) -> Certificate:
    try:
        read = x509.load_pem_x509_certificate(pem.encode("ascii"))
        pin = spki_pin(read)
        subject, issuer = read.subject.rfc4514_string(), read.issuer.rfc4514_string()
    except ValueError:
        raise TlsFailed("certificate_malformed") from None
    return Certificate(
        subject=subject[:300],
        issuer=issuer[:300],
        pin=pin,
        fingerprint=read.fingerprint(SHA256()).hex(":").upper(),
        not_before=read.not_valid_before_utc,
        not_after=read.not_valid_after_utc,
        names=_names(read),
        self_signed=subject == issuer,
        pem=read.public_bytes(Encoding.PEM).decode("ascii"),
    )


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(one.value)[:255] for one in list(found)[:50])
