"""RC2 in CBC mode (RFC 2268), decryption only: what old PKCS#12 files hide certificates with.

It keeps nothing secret; the private key beside it is never encrypted with anything so weak by us.
"""

from __future__ import annotations

import struct
from typing import Final

# RFC 2268, section 2.
_PI: Final = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)


def decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """With as many effective bits as the key has; padding is left on. `data`: whole blocks of 8."""
    expanded = _expand(key)
    out, before = bytearray(), iv
    for start in range(0, len(data), 8):
        block = data[start : start + 8]
        plain = _decrypt(expanded, block)
        out += bytes(left ^ right for left, right in zip(plain, before, strict=True))
        before = block
    return bytes(out)


def _expand(key: bytes) -> tuple[int, ...]:
    length = len(key)
    expanded = bytearray(key.ljust(128, b"\x00"))
    for place in range(length, 128):
        expanded[place] = _PI[(expanded[place - 1] + expanded[place - length]) & 0xFF]
    expanded[128 - length] = _PI[expanded[128 - length]]
    for place in range(127 - length, -1, -1):
        expanded[place] = _PI[expanded[place + 1] ^ expanded[place + length]]
    return struct.unpack("<64H", expanded)


def _decrypt(key: tuple[int, ...], block: bytes) -> bytes:
    words = list(struct.unpack("<4H", block))
    place = 63
    for round_ in range(16):
        if round_ in (5, 11):
            for word in (3, 2, 1, 0):
                words[word] = (words[word] - key[words[word - 1] & 63]) & 0xFFFF
        for word, turned in ((3, 5), (2, 3), (1, 2), (0, 1)):
            value = words[word] >> turned | words[word] << (16 - turned)
            mixed = (words[word - 1] & words[word - 2]) + (~words[word - 1] & words[word - 3])
            words[word] = (value - key[place] - mixed) & 0xFFFF
            place -= 1
    return struct.pack("<4H", *words)
