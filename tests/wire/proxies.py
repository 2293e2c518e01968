"""A proxy as companies have it: CONNECT only, for those who have logged in."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import spnego
from spnego.exceptions import SpnegoError

# What pyspnego's acceptor reads accounts from: the file that NTLM_USER_FILE names.
ACCOUNTS = "CORP:svc-ens:Secret-of-the-proxy\n"
USER, PASSWORD = "CORP\\svc-ens", "Secret-of-the-proxy"
SCHEMES = {"ntlm": "NTLM", "negotiate": "Negotiate", "basic": "Basic"}


@dataclass
class ConnectProxy:
    """It sends every tunnel to `port` on loopback, whatever host was asked for."""

    auth: str
    to_port: int = 0
    port: int = 0
    targets: list[str] = field(default_factory=list)
    refused: int = 0
    heads: list[bytes] = field(default_factory=list)
    page: bytes = b"<html>who are you?</html>"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            target = await self._let_in(reader, writer)
            if target:
                self.targets.append(target)
                there = await asyncio.open_connection("127.0.0.1", self.to_port)
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        writer.close()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        acceptor = None
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            target = re.match(rb"CONNECT (\S+) HTTP/1.1\r\n", head)
            assert target is not None, head
            given = re.search(rb"\r\nProxy-Authorization: (\S+) (\S+)\r\n", head)
            challenge = b""
            if self.auth == "none":
                return target[1].decode()
            if given and given[1].decode() == SCHEMES[self.auth]:
                token = b64decode(given[2])
                if self.auth == "basic":
                    if token == f"{USER}:{PASSWORD}".encode():
                        return target[1].decode()
                else:
                    acceptor = acceptor or spnego.server(protocol=self.auth)
                    try:
                        challenge = acceptor.step(token) or b""
                        if acceptor.complete:
                            return target[1].decode()
                    except SpnegoError:
                        acceptor, challenge = None, b""
            self.refused += 1
            offer = f"{SCHEMES[self.auth]} {b64encode(challenge).decode()}".strip()
            offer += ' realm="proxy"' if self.auth == "basic" else ""
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Digest x=1\r\n"
                + f"Proxy-Authenticate: {offer}\r\nContent-Length: {len(self.page)}\r\n".encode()
                + b"Connection: keep-alive\r\n\r\n"
                + self.page
            )
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def connect_proxy(auth: str, to_port: int = 0) -> AsyncIterator[ConnectProxy]:
    """A proxy on a free port of loopback."""
    proxy = ConnectProxy(auth, to_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
