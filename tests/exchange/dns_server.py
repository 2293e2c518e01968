"""A name server for SRV records on loopback, that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

SrvRecords = dict[str, list[str]]


@dataclass
class NameServer:
    """A running server. `records`: name to `priority weight port target.` each."""

    address: str = ""
    records: SrvRecords = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # Called after each question, before the answer: what changes in between.
    between: Callable[[], None] | None = None
    raw: bytes | None = None
    rcode: dns.rcode.Rcode | None = None
    silent: bool = False

    def answer(self, query: bytes) -> bytes | None:
        """The bytes to answer with, None for nothing."""
        message = dns.message.from_wire(query)
        name = message.question[0].name
        self.asked.append(name.to_text(omit_final_dot=True).lower())
        if self.between is not None:
            self.between()
        if self.silent:
            return None
        if self.raw is not None:
            return query[:2] + self.raw
        response = dns.message.make_response(message)
        response.flags |= dns.flags.RA
        found = self.records.get(self.asked[-1])
        if found:
            response.answer.append(dns.rrset.from_text_list(name, 0, "IN", "SRV", found))
        response.set_rcode(self.rcode or (dns.rcode.NOERROR if found else dns.rcode.NXDOMAIN))
        return response.to_wire(max_size=65535)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def name_server(
    records: SrvRecords | None = None, port: int = 0
) -> AsyncIterator[NameServer]:
    """A name server on a UDP port of loopback, 0 for any that is free."""
    server = NameServer(records=records or {})
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Udp(server), local_addr=("127.0.0.1", port)
    )
    server.address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        yield server
    finally:
        transport.close()


@contextmanager
def in_thread(records: SrvRecords, port: int) -> Iterator[NameServer]:
    """The same in a thread, for tests without a loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="name-server", daemon=True)
    thread.start()
    server = name_server(records, port)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
