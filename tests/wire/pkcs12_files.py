"""Writes PKCS#12 files that no tool would."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_OIDS = {
    "data": "2a864886f70d010701",
    "encrypted data": "2a864886f70d010706",
    "encrypted key": "2a864886f70d010c0a0102",
    "certificate": "2a864886f70d010c0a0103",
    "x509": "2a864886f70d01091601",
    "PBES2": "2a864886f70d01050d",
    "PBKDF2": "2a864886f70d01050c",
    "HMAC": "2a864886f70d0209",
    "SHA-1": "2b0e03021a",
    "AES": "60864801650304012a",
}


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _oid(name: str) -> bytes:
    return _der(6, bytes.fromhex(_OIDS[name]))


def _number(value: int) -> bytes:
    return _der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _encrypted(plain: bytes, password: str, rounds: int) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier and ciphertext; what would take too long is not really derived."""
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), bytes(8), min(rounds, 500_000), 32)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    hashed = _der(0x30, _oid("HMAC"), _der(5))
    derivation = _der(0x30, _oid("PBKDF2"), _der(0x30, _der(4, bytes(8)), _number(rounds), hashed))
    cipher = _der(0x30, _oid("AES"), _der(4, bytes(16)))
    algorithm = _der(0x30, _oid("PBES2"), _der(0x30, derivation, cipher))
    return algorithm, encryptor.update(padded) + encryptor.finalize()


def pfx_with_nested_key(
    key: Any, certificate: x509.Certificate, password: str, rounds: int
) -> bytes:
    """A safe of one round, or where `rounds` is negative of that many, too, with the key in it."""
    pkcs8 = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    algorithm, sealed = _encrypted(pkcs8, password, abs(rounds))
    key_bag = _der(
        0x30,
        _oid("encrypted key"),
        _der(0xA0, _der(0x30, algorithm, _der(4, sealed))),
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    cert_bag = _der(
        0x30,
        _oid("certificate"),
        _der(0xA0, _der(0x30, _oid("x509"), _der(0xA0, _der(4, der)))),
    )
    contents = _der(0x30, key_bag, cert_bag)
    algorithm, sealed = _encrypted(contents, password, -rounds if rounds < 0 else 1)
    info = _der(0x30, _oid("data"), algorithm, _der(0x80, sealed))
    safe = _der(0x30, _oid("encrypted data"), _der(0xA0, _der(0x30, _number(0), info)))
    safes = _der(0x30, safe)
    outer = _der(0x30, _oid("data"), _der(0xA0, _der(4, safes)))
    return _der(0x30, _number(3), outer, _mac(safes, password))


def _mac(safes: bytes, password: str) -> bytes:
    """HMAC-SHA1 under a key derived in one round: RFC 7292, appendix B.2, with the id 3."""
    secret = (password + "\0").encode("utf-16-be")
    filled = (secret * 64)[: -(-len(secret) // 64) * 64]
    key = hashlib.sha1(bytes([3]) * 64 + bytes(64) + filled).digest()
    digest = hmac.digest(key, safes, "sha1")
    algorithm = _der(0x30, _oid("SHA-1"), _der(5))
    return _der(0x30, _der(0x30, algorithm, _der(4, digest)), _der(4, bytes(8)), _number(1))
