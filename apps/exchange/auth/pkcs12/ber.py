"""Just enough of ASN.1's basic encoding (X.690) to read a PKCS#12 file. Every byte is hostile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

INTEGER: Final = 0x02
OCTETS: Final = 0x04
OID: Final = 0x06
SEQUENCE: Final = 0x30
_CONSTRUCTED: Final = 0x20
_DEEPEST: Final = 12
_MOST: Final = 4000


class Malformed(ValueError):
    """Not what was expected; the text tells nothing of it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value: its identifier octet, its content or its parts, and all of its bytes."""

    tag: int
    content: bytes = field(repr=False)
    parts: tuple[Node, ...] = field(repr=False)
    raw: bytes = field(repr=False)

    def part(self, index: int, tag: int) -> Node:
        """A part that must be there, of this kind; raises Malformed."""
        if index >= len(self.parts) or self.parts[index].tag != tag:
            raise Malformed
        return self.parts[index]

    def whole(self, tag: int) -> Node:
        """This node, if it is of that kind; raises Malformed."""
        if self.tag != tag:
            raise Malformed
        return self

    def number(self) -> int:
        """An INTEGER's value; raises Malformed."""
        if self.tag != INTEGER or not 0 < len(self.content) <= 8:
            raise Malformed
        return int.from_bytes(self.content, "big", signed=True)

    def octets(self) -> bytes:
        """An OCTET STRING's, be it in one part or in many."""
        if self.tag & _CONSTRUCTED:
            return b"".join(part.octets() for part in self.parts)
        return self.content

    def oid(self) -> str:
        """An OBJECT IDENTIFIER in dots; raises Malformed."""
        if self.tag != OID or not 0 < len(self.content) <= 32 or self.content[-1] & 0x80:
            raise Malformed
        arcs, value = [], 0
        for octet in self.content:
            value = value << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def read(data: bytes) -> Node:
    """The one value that `data` holds; raises Malformed."""
    reader = _Reader(data)
    node = reader.node(len(data), 0)
    if reader.at != len(data):
        raise Malformed
    return node


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._count = 0
        self.at = 0

    def node(self, end: int, depth: int) -> Node:
        self._count += 1
        if depth > _DEEPEST or self._count > _MOST:
            raise Malformed
        start = self.at
        tag = self._octet(end)
        length = self._length(end)
        if tag & 0x1F == 0x1F or (length is None and not tag & _CONSTRUCTED):
            raise Malformed
        stop = end if length is None else self.at + length
        if stop > end:
            raise Malformed
        if not tag & _CONSTRUCTED:
            content = self._data[self.at : stop]
            self.at = stop
            return Node(tag, content, (), self._data[start:stop])
        parts = self._parts(stop, depth, open_ended=length is None)
        return Node(tag, b"", parts, self._data[start : self.at])

    def _parts(self, stop: int, depth: int, *, open_ended: bool) -> tuple[Node, ...]:
        parts: list[Node] = []
        while open_ended or self.at < stop:
            if open_ended and self._data[self.at : self.at + 2] == b"\x00\x00":
                self.at += 2
                break
            parts.append(self.node(stop, depth + 1))
        return tuple(parts)

    def _octet(self, end: int) -> int:
        if self.at >= end:
            raise Malformed
        self.at += 1
        return self._data[self.at - 1]

    def _length(self, end: int) -> int | None:
        """None: until two zero octets."""
        first = self._octet(end)
        if first < 0x80:
            return first
        if first == 0x80:
            return None
        if first > 0x84:
            raise Malformed
        length = 0
        for _ in range(first & 0x7F):
            length = length << 8 | self._octet(end)
        return length
