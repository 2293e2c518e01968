"""A pretend APNs that costs far less than those who call it: `python -m apps.lab.bench_relay.apns`.

The lab's own (`apps/lab/apns`) plays all of APNs' moods and costs some 300 µs a push; this one only
says 200, at about a tenth of that. It reads frames (RFC 9113), counts streams and different bodies,
and answers each stream with its `apns-id` as soon as it has ended. The header blocks at the
beginning of a connection are decoded in full: who leaves out what APNs wants gets a 400.

It speaks with the bench over its standard streams: a first line with its port, then for each line
it reads one with what it has counted since the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
from pathlib import Path

from hpack import Decoder, HPACKError

from apps.lab.bench_relay.header_block import BlockMalformed, Blocks
from apps.lab.ca import LabCa

MAX_STREAMS = 1000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 4, 6, 7, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY, _ACK = 1, 4, 8, 32, 1
_WINDOW = 1 << 24
# Decoded in full on each connection, to see that everybody sends what APNs wants.
_EXAMINED = 50
_PATH = re.compile(r"/3/device/[0-9a-f]{64}")
_WANTED = frozenset(["authorization", "apns-topic", "apns-push-type", "apns-priority", "apns-id"])


class Counted:
    """What all connections have taken since the last report."""

    def __init__(self) -> None:
        self.answered = self.refused = self.connections = 0
        self.bodies: set[int] = set()

    def report(self) -> str:
        """The counts as a line of JSON; they begin anew."""
        line = json.dumps(
            {
                "answered": self.answered,
                "refused": self.refused,
                "different": len(self.bodies),
                "connections": self.connections,
            }
        )
        self.answered = self.refused = self.connections = 0
        self.bodies.clear()
        return line


class Connection(asyncio.Protocol):
    """One connection; every read is answered with one write."""

    def __init__(self, counted: Counted) -> None:
        self._counted = counted
        self._blocks = Blocks()
        self._decoder = Decoder()
        self._examined = 0
        self._unread = b""
        self._greeted = False
        self._taken = 0
        self._out: list[bytes] = []
        # By stream: the header block so far, then the answer that is due, and the body so far.
        self._partial: dict[int, bytes] = {}
        self._answers: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what APNs says first: how many streams at once, and how much data."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counted.connections += 1
        settings = b"\x00\x03" + MAX_STREAMS.to_bytes(4, "big")
        transport.write(_frame(_SETTINGS, 0, 0, settings) + _more_window(_WINDOW))

    def data_received(self, data: bytes) -> None:
        """Read all whole frames and write all answers."""
        data = self._unread + data if self._unread else data
        position, end = 0, len(data)
        if not self._greeted:
            if end < len(_PREFACE):
                self._unread = data
                return
            if not data.startswith(_PREFACE):
                self._transport.abort()
                return
            self._greeted, position = True, len(_PREFACE)
        try:
            while end - position >= 9:
                length = int.from_bytes(data[position : position + 3], "big")
                after = position + 9 + length
                if after > end:
                    break
                stream = int.from_bytes(data[position + 5 : position + 9], "big")
                self._read(
                    data[position + 3], data[position + 4], stream, data[position + 9 : after]
                )
                position = after
        except (BlockMalformed, HPACKError, KeyError):
            self._transport.abort()
            return
        self._unread = data[position:]
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._take_data(flags, stream, payload)
        elif kind == _HEADERS:
            block = _unpadded(flags, payload)
            block = block[5:] if flags & _PRIORITY else block
            # The answer waits for the body: nobody asks APNs for anything without one.
            self._take_block(flags, stream, block)
        elif kind == _CONTINUATION:
            self._take_block(flags, stream, self._partial.pop(stream) + payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._out.append(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._out.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            self._transport.close()

    def _take_block(self, flags: int, stream: int, block: bytes) -> None:
        if not flags & _END_HEADERS:
            self._partial[stream] = block
            return
        good = True
        if self._examined < _EXAMINED:
            self._examined += 1
            good = _as_apns_wants({_text(n): _text(v) for n, v in self._decoder.decode(block)})
        literal = self._blocks.apns_id(block)
        if good and literal:
            # `:status: 200` from the static table, then a literal without indexing.
            self._answers[stream] = b"\x88\x00\x07apns-id" + literal
        else:
            self._answers[stream] = b"\x8c"

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > _WINDOW // 2:
            self._out.append(_more_window(self._taken))
            self._taken = 0
        body = _unpadded(flags, payload)
        if stream in self._bodies:
            body = self._bodies.pop(stream) + body
        if not flags & _END_STREAM:
            self._bodies[stream] = body
            return
        answer = self._answers.pop(stream)
        self._out.append(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, answer))
        self._counted.bodies.add(hash(body))
        if len(answer) > 1:
            self._counted.answered += 1
        else:
            self._counted.refused += 1


def _as_apns_wants(headers: dict[str, str]) -> bool:
    return (
        headers.get(":method") == "POST"
        and _PATH.fullmatch(headers.get(":path", "")) is not None
        and headers.get("authorization", "").startswith("bearer ")
        and headers.keys() >= _WANTED
    )


def _text(part: str | bytes) -> str:
    return part if isinstance(part, str) else part.decode("latin-1")


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _more_window(number: int) -> bytes:
    """A WINDOW_UPDATE for the whole connection; no body is longer than a stream's own window."""
    return _frame(8, 0, 0, number.to_bytes(4, "big"))


async def serve(directory: Path) -> None:
    """Serve until standard input ends; the CA is written to `<directory>/ca.pem`."""
    counted = Counted()
    context = LabCa(directory).issue("apns").server_context()
    context.set_alpn_protocols(["h2"])
    context.options |= ssl.OP_NO_COMPRESSION
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counted), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(counted.report(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    asyncio.run(serve(parser.parse_args().directory))


if __name__ == "__main__":
    main()
