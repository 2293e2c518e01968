"""The certificates that a host shows, fetched from real servers."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from apps.wire import certificates
from apps.wire.errors import AddressRefused, ConnectFailed, DeadlineExceeded, TlsFailed, WireError
from tests.wire.servers import Authority


def allow(address: IPv4Address | IPv6Address) -> None:
    pass


@asynccontextmanager
async def serving(authority: Authority, *names: str) -> AsyncIterator[tuple[int, bytes]]:
    """A TLS server that answers 401 to everything; its port, and its SubjectPublicKeyInfo."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=x\r\n"
                b"Content-Length: 2\r\n\r\nno"
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context, spki = authority.context(*names)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], spki


async def fetched(port: int, ca_pem: str = "", host: str = "127.0.0.1") -> certificates.Shown:
    url = f"https://{host}:{port}/EWS/Exchange.asmx"
    return await asyncio.to_thread(certificates.fetch, url, allow, ca_pem)


async def test_pin_fingerprint_expiry_and_names(authority: Authority) -> None:
    async with serving(authority) as (port, spki):
        shown = await fetched(port, authority.pem)
    (leaf,) = shown.chain
    assert leaf.pin == b64encode(sha256(spki).digest()).decode()
    assert len(leaf.fingerprint) == 95 and leaf.not_after > leaf.not_before
    assert "localhost" in leaf.names and not leaf.self_signed
    assert shown.trusted and shown.name_matches


async def test_what_is_not_trusted_is_shown_all_the_same(authority: Authority) -> None:
    async with serving(authority, "other.example") as (port, _):
        shown = await fetched(port)
        assert (shown.trusted, shown.name_matches) == (False, False)
        shown = await fetched(port, authority.pem)
        assert (shown.trusted, shown.name_matches) == (True, False)


async def test_a_refused_address_is_not_connected(authority: Authority) -> None:
    def refuse(address: IPv4Address | IPv6Address) -> None:
        raise AddressRefused

    async with serving(authority) as (port, _):
        for url in (f"https://127.0.0.1:{port}/", f"https://localhost:{port}/"):
            with pytest.raises(AddressRefused):
                await asyncio.to_thread(certificates.fetch, url, refuse)
            with pytest.raises(AddressRefused):
                await asyncio.to_thread(certificates.ask, url, refuse)


async def test_an_answer_with_its_headers(authority: Authority) -> None:
    async with serving(authority) as (port, _):
        answer = await asyncio.to_thread(certificates.ask, f"https://127.0.0.1:{port}/", allow)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == ("NTLM", "Basic realm=x")


async def test_no_connection_and_no_tls(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectFailed):
        await fetched(unused_tcp_port)

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TlsFailed):
            await fetched(server.sockets[0].getsockname()[1])


async def test_a_silent_host_is_left_at_the_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(
                certificates.fetch, f"https://127.0.0.1:{port}/", allow, deadline_s=0.3
            )
        server.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "file:///etc/passwd", "https:///x", "x"])
def test_only_https(url: str) -> None:
    with pytest.raises(WireError):
        certificates.fetch(url, allow)


def test_names_have_addresses() -> None:
    assert ip_address("127.0.0.1") in certificates.addresses("localhost")
    with pytest.raises(ConnectFailed):
        certificates.addresses("no-such-host.invalid")
