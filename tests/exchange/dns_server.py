"""A name server for SRV records on loopback, that answers whatever a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
async def name_server(records: SrvRecords | None = None) -> AsyncIterator[NameServer]:
    """A name server on a free UDP port of loopback."""
    server = NameServer(records=records or {})
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Udp(server), local_addr=("127.0.0.1", 0)
    )
    server.address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    try:
        yield server
    finally:
        transport.close()
