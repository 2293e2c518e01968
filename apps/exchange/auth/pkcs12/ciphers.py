"""What the safes of a PKCS#12 file are encrypted with, and how many rounds that may cost.

Old files: RFC 7292, appendices B and C. New ones: PBES2 (RFC 8018), with AES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from apps.exchange.auth.pkcs12 import rc2
from apps.exchange.auth.pkcs12.ber import INTEGER, OCTETS, OID, SEQUENCE, Malformed, Node

# In all. Windows asks for 2,000, Java for 20,000, Bouncy Castle for 100,000; all of them take a
# fifth of a second.
MOST_ROUNDS: Final = 300_000
_LONGEST_SALT: Final = 64

_PBES2: Final = "1.2.840.113549.1.5.13"
_PBKDF2: Final = "1.2.840.113549.1.5.12"
_OLD: Final = "1.2.840.113549.1.12.1."
# By the last arc: cipher, and length of its key.
_OLD_CIPHERS: Final = {"3": ("3des", 24), "5": ("rc2", 16), "6": ("rc2", 5)}
_HMACS: Final = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_CIPHERS: Final = {
    "1.2.840.113549.3.7": ("3des", 24),
    "2.16.840.1.101.3.4.1.2": ("aes", 16),
    "2.16.840.1.101.3.4.1.22": ("aes", 24),
    "2.16.840.1.101.3.4.1.42": ("aes", 32),
}


class Rounds:
    """Counts rounds of key derivation before they are run."""

    def __init__(self) -> None:
        self._left = MOST_ROUNDS

    def take(self, count: int) -> int:
        """Raises Malformed when there would be too many."""
        if not 0 < count <= self._left:
            raise Malformed
        self._left -= count
        return count


def decrypt(algorithm: Node, data: bytes, password: str, rounds: Rounds) -> bytes:
    """Open what an AlgorithmIdentifier says how to open.

    Raises:
        Malformed: nothing that we know, too many rounds, or not with this password.
    """
    oid = algorithm.part(0, OID).oid()
    parameters = algorithm.part(1, SEQUENCE)
    open_ = _new if oid == _PBES2 else _old(oid)
    plain = open_(parameters, data, password, rounds)
    size = plain[-1] if plain else 0
    if not 0 < size <= 16 or plain[-size:] != bytes([size]) * size:
        raise Malformed
    return plain[:-size]


_Open = Callable[[Node, bytes, str, Rounds], bytes]


def _old(oid: str) -> _Open:
    cipher, length = _OLD_CIPHERS.get(oid.removeprefix(_OLD), ("", 0))
    if not oid.startswith(_OLD) or not cipher:
        raise Malformed

    def opened(parameters: Node, data: bytes, password: str, rounds: Rounds) -> bytes:
        salt = _salt(parameters.part(0, OCTETS))
        count = rounds.take(parameters.part(1, INTEGER).number())
        # Its two results are derived one after the other.
        rounds.take(count)
        key, iv = (
            _derive(purpose, password, salt, count, wanted)
            for purpose, wanted in ((1, length), (2, 8))
        )
        return _decrypted(cipher, key, iv, data)

    return opened


def _new(parameters: Node, data: bytes, password: str, rounds: Rounds) -> bytes:
    derivation, encryption = parameters.part(0, SEQUENCE), parameters.part(1, SEQUENCE)
    if derivation.part(0, OID).oid() != _PBKDF2:
        raise Malformed
    cipher, length = _CIPHERS.get(encryption.part(0, OID).oid(), ("", 0))
    if not cipher:
        raise Malformed
    given = derivation.part(1, SEQUENCE)
    salt = _salt(given.part(0, OCTETS))
    count = rounds.take(given.part(1, INTEGER).number())
    named = [part.part(0, OID).oid() for part in given.parts[2:] if part.tag == SEQUENCE]
    digest = _HMACS.get(named[0], "") if named else "sha1"
    if not digest:
        raise Malformed
    if len(hashlib.new(digest).digest()) < length:
        rounds.take(count)
    key = hashlib.pbkdf2_hmac(digest, password.encode(), salt, count, length)
    return _decrypted(cipher, key, encryption.part(1, OCTETS).content, data)


def _salt(node: Node) -> bytes:
    if len(node.content) > _LONGEST_SALT:
        raise Malformed
    return node.content


def _decrypted(cipher: str, key: bytes, iv: bytes, data: bytes) -> bytes:
    size = 16 if cipher == "aes" else 8
    if len(iv) != size or len(data) % size:
        raise Malformed
    if cipher == "rc2":
        return rc2.decrypt_cbc(key, iv, data)
    algorithm = algorithms.AES(key) if cipher == "aes" else TripleDES(key)
    context = Cipher(algorithm, modes.CBC(iv)).decryptor()
    return context.update(data) + context.finalize()


def _derive(purpose: int, password: str, salt: bytes, count: int, wanted: int) -> bytes:
    """RFC 7292, appendix B.2, with SHA-1: 20 octets from each turn, from blocks of 64."""
    spoken = (password + "\0").encode("utf-16-be", "replace")
    filled = bytearray(_repeated(salt) + _repeated(spoken))
    found = b""
    while len(found) < wanted:
        digest = hashlib.sha1(bytes([purpose]) * 64 + filled, usedforsecurity=False).digest()
        for _ in range(count - 1):
            digest = hashlib.sha1(digest, usedforsecurity=False).digest()
        found += digest
        added = int.from_bytes((digest * 4)[:64], "big") + 1
        for start in range(0, len(filled), 64):
            value = int.from_bytes(filled[start : start + 64], "big") + added
            filled[start : start + 64] = (value % (1 << 512)).to_bytes(64, "big")
    return found[:wanted]


def _repeated(text: bytes) -> bytes:
    """Repeated to whole blocks."""
    length = -(-len(text) // 64) * 64
    return (text * 64)[:length] if text else b""
