"""IIS's side of FastCGI: the records it sends, and those it gets.

https://fastcgi-archives.github.io/FastCGI_Specification.html
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Final

_HEADER: Final = struct.Struct(">BBHHBB")
_BEGIN, _END, _PARAMS, _STDIN, _STDOUT, _STDERR = 1, 3, 4, 5, 6, 7


def exchange(
    pipe: socket.socket, params: Mapping[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """One request; returns status, headers (lower-case names) and body of the answer."""
    sent = _record(_BEGIN, struct.pack(">HB5x", 1, 1))
    sent += _stream(_PARAMS, b"".join(_pair(name, value) for name, value in params.items()))
    sent += _stream(_STDIN, body)
    pipe.sendall(sent)
    out, errors = b"", b""
    while True:
        _, kind, _, length, padding, _ = _HEADER.unpack(_exactly(pipe, _HEADER.size))
        content = _exactly(pipe, length)
        _exactly(pipe, padding)
        if kind == _END:
            break
        out += content if kind == _STDOUT else b""
        errors += content if kind == _STDERR else b""
    assert not errors, errors.decode()
    head, _, answer = out.partition(b"\r\n\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    }
    return int(headers["status"].split()[0]), headers, answer


def _record(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(1, kind, 1, len(content), 0, 0) + content


def _stream(kind: int, content: bytes) -> bytes:
    """The content in records of a size as IIS sends them, and the empty one that ends it."""
    parts = [content[at : at + 16_384] for at in range(0, len(content), 16_384)]
    return b"".join(_record(kind, part) for part in parts) + _record(kind, b"")


def _pair(name: str, value: str) -> bytes:
    both = name.encode("latin-1"), value.encode("latin-1")
    return b"".join(map(_length, both)) + b"".join(both)


def _length(text: bytes) -> bytes:
    return bytes([len(text)]) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31)


def _exactly(pipe: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = pipe.recv(count - len(found))
        assert part, "wfastcgi has ended"
        found += part
    return found
