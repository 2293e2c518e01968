"""Who we are by certificate: shown when asked for, and never one for the other."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from apps.wire.client import Client, Request, Tls, TlsFailed, WireError
from tests.wire.servers import Authority, http_answer


def client_pem(authority: Authority, name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = authority._builder(subject, key.public_key()).sign(authority.key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + private


class WhoAmI:
    """Answers each request with the common name of its connection's client certificate."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.resumed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tls = writer.get_extra_info("ssl_object")
        self.resumed += bool(tls.session_reused)
        name = dict(pair for (pair,) in tls.getpeercert()["subject"])["commonName"]
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(http_answer(body=name.encode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()


@asynccontextmanager
async def who_am_i(authority: Authority, most: ssl.TLSVersion) -> AsyncIterator[WhoAmI]:
    context, _ = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    context.maximum_version = most
    made = WhoAmI()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_connection_and_no_session_serves_two_certificates(
    authority: Authority, client: Client, version: ssl.TLSVersion
) -> None:
    async with who_am_i(authority, version) as site:

        async def ask(pem: bytes, *extra: tuple[str, str]) -> bytes:
            tls = Tls(ca_pem=authority.pem, client_pem=pem)
            url = f"https://localhost:{site.port}/"
            return (await client.perform(Request("GET", url, headers=extra, tls=tls))).body

        anna, ben = client_pem(authority, "anna"), client_pem(authority, "ben")
        for _ in range(3):
            assert await ask(anna) == b"anna"
            assert await ask(ben) == b"ben"
        # Each keeps its own connection.
        assert site.connections == 2
        together = await asyncio.gather(*(ask(anna if n % 2 else ben) for n in range(20)))
        assert together == [b"anna" if n % 2 else b"ben" for n in range(20)]
        assert site.resumed == 0


async def test_without_a_certificate_a_server_that_asks_for_one_refuses(
    authority: Authority, client: Client
) -> None:
    async with who_am_i(authority, ssl.TLSVersion.TLSv1_2) as site:
        request = Request("GET", f"https://localhost:{site.port}/", tls=Tls(ca_pem=authority.pem))
        with pytest.raises(WireError):
            await client.perform(request)
        assert site.connections == 0


async def test_a_certificate_that_can_t_be_used_is_named(
    authority: Authority, client: Client
) -> None:
    anna, ben = client_pem(authority, "anna"), client_pem(authority, "ben")
    key = b"-----BEGIN PRIVATE KEY-----"
    swapped = anna.split(key)[0] + key + ben.split(key)[1]
    async with who_am_i(authority, ssl.TLSVersion.TLSv1_3) as site:
        for pem in (b"nonsense", anna.split(key)[0], swapped):
            tls = Tls(ca_pem=authority.pem, client_pem=pem)
            with pytest.raises(WireError) as caught:
                await client.perform(Request("GET", f"https://localhost:{site.port}/", tls=tls))
            assert caught.value.code == "client_certificate_unusable"
    assert "PRIVATE" not in repr(Tls(client_pem=anna))


# TLS 1.2 has no word for a certificate that is missing.
@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
        (ssl.TLSVersion.TLSv1_3, False),
    ],
)
async def test_a_certificate_that_the_peer_refuses_is_named(
    authority: Authority,
    client: Client,
    tmp_path_factory: pytest.TempPathFactory,
    version: ssl.TLSVersion,
    shown: bool,
) -> None:
    """By a server that says why: asyncio's hangs up without a word."""
    context, _ = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    context.minimum_version = context.maximum_version = version
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    pem = client_pem(stranger, "anna") if shown else b""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            taken, _ = server.accept()
            spoken = context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False)
            with spoken, suppress(OSError):
                with suppress(OSError):
                    spoken.do_handshake()
                # To hang up on what the client goes on saying would take back the alert.
                socket.socket.shutdown(spoken, socket.SHUT_WR)
                while socket.socket.recv(spoken, 4096):
                    pass

        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        url = f"https://localhost:{server.getsockname()[1]}/"
        tls = Tls(ca_pem=authority.pem, client_pem=pem)
        with pytest.raises(TlsFailed) as caught:
            await client.perform(Request("GET", url, tls=tls))
        await refusing
    assert caught.value.code == "client_certificate_refused"
