"""A TCP proxy on loopback: spreads connections over servers, and can cut the line.

It stands where a site has its load balancer (several web processes behind one address) and where
a test wants to pull the plug (between ENS and Exchange). It runs in a thread of this process.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from apps.lab.stand.ports import HOST

_CHUNK = 64 * 1024


class TcpProxy:
    """Listens on `port` and hands each connection to the next server that accepts it."""

    def __init__(self, port: int, servers: Sequence[int]) -> None:
        self.port = port
        self._servers = list(servers)
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"proxy {port}", daemon=True
        )
        self._listening: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def start(self) -> None:
        """Begin to listen; raises OSError when the port is taken."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Cut everything for good. Safe when it has not started or has stopped."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def take_out(self, server: int) -> None:
        """Give this server no new connection; those that are open stay."""
        self._servers = [each for each in self._servers if each != server]

    def put_back(self, server: int) -> None:
        """Give this server connections again."""
        self._servers = [*self._servers, server]

    def cut(self) -> None:
        """Reset every connection and refuse new ones, until `restore`."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def restore(self) -> None:
        """Take connections again after `cut`."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(
            self._serve, HOST, self.port, limit=_CHUNK, backlog=512
        )

    async def _cut(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for writer in list(self._open):
            # Without lingering, what is closed is reset.
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            with suppress(OSError):  # closed at this moment by the other end
                peer = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            found = await self._connect()
            if found is not None:
                self._open.add(found[1])
                await asyncio.gather(_copy(reader, found[1]), _copy(found[0], writer))
                self._open.discard(found[1])
        finally:
            # Nobody accepted: as if nobody had listened.
            writer.transport.abort()
            self._open.discard(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first, servers = next(self._turn), self._servers
        for step in range(len(servers)):
            port = servers[(first + step) % len(servers)]
            with suppress(OSError):
                return await asyncio.open_connection(HOST, port, limit=_CHUNK)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until either end is gone, then close the other."""
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()
