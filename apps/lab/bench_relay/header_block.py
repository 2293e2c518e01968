"""Finds `apns-id` in HPACK header blocks (RFC 7541) without decoding what else is in them.

A full decoder costs more than all the rest of a push. What is needed of a block is one value, and
that only to be sent back: it goes back as it came, Huffman code and all.
"""

from __future__ import annotations

from collections import deque

from hpack import Encoder

_STATIC_ENTRIES = 61
# An entry counts for 32 bytes at least, and nobody was offered more than the default of 4,096.
_MOST_ENTRIES = 128
_APNS_ID = b"apns-id"


def _spellings() -> frozenset[bytes]:
    """`apns-id` as a string literal (RFC 7541, section 5.2), plain and in Huffman code."""
    coded = Encoder().huffman_coder.encode(_APNS_ID)
    return frozenset([bytes([len(_APNS_ID)]) + _APNS_ID, bytes([0x80 | len(coded)]) + coded])


_SPELLINGS = _spellings()


class BlockMalformed(Exception):
    """Not a header block."""


class Blocks:
    """The header blocks of one connection, in order.

    An encoder refers to what it has sent before by distance, so what it was told to forget is
    never asked for: entries need no sizes here, and a table that is too long does no harm.
    """

    def __init__(self) -> None:
        self._table: deque[tuple[bool, bytes]] = deque(maxlen=_MOST_ENTRIES)

    def apns_id(self, block: bytes) -> bytes:
        """The value of `apns-id` as a string literal, to be sent back as it is; empty if absent.

        Raises:
            BlockMalformed: the block ends too early or refers to nothing.
        """
        try:
            return self._walk(block)
        except IndexError:
            raise BlockMalformed from None

    def _walk(self, block: bytes) -> bytes:
        found, position, end = b"", 0, len(block)
        table = self._table
        while position < end:
            first = block[position]
            if first & 0x80:
                index, position = _number(block, position, 0x7F)
                if index > _STATIC_ENTRIES:
                    ours, value = table[index - _STATIC_ENTRIES - 1]
                    found = value if ours else found
                continue
            if first & 0xE0 == 0x20:
                _, position = _number(block, position, 0x1F)
                continue
            index, position = _number(block, position, 0x3F if first & 0x40 else 0x0F)
            if index == 0:
                name, position = _literal(block, position)
                ours = name in _SPELLINGS
            else:
                ours = index > _STATIC_ENTRIES and table[index - _STATIC_ENTRIES - 1][0]
            value, position = _literal(block, position)
            if ours:
                found = value
            if first & 0x40:
                table.appendleft((ours, value))
        return found


def _number(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """An integer with a prefix (RFC 7541, section 5.1), and where it ends."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
        shift += 7


def _literal(block: bytes, position: int) -> tuple[bytes, int]:
    """A string literal with its length in front, and where it ends."""
    length = block[position] & 0x7F
    begin, start = position, position + 1
    if length == 0x7F:
        length, start = _number(block, position, 0x7F)
    end = start + length
    if end > len(block):
        raise IndexError
    return block[begin:end], end
