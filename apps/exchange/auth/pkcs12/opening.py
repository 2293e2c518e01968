"""From a PKCS#12 file and its password: the certificate, its issuers and its key, in PEM.

The MAC over the file is not looked at: it comes with the password that makes it, in a JWE that is
authenticated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from apps.exchange.auth.pkcs12.ber import OCTETS, OID, SEQUENCE, Malformed, Node, read
from apps.exchange.auth.pkcs12.ciphers import Rounds, decrypt

LONGEST: Final = 8192
# An RSA key of 4,096 bits takes 2,400 octets; verifying a longer one takes seconds.
_LONGEST_KEY: Final = 2600
_MOST_CERTIFICATES: Final = 8

_DATA: Final = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"
_KEY: Final = "1.2.840.113549.1.12.10.1.1"
_ENCRYPTED_KEY: Final = "1.2.840.113549.1.12.10.1.2"
_CERTIFICATE: Final = "1.2.840.113549.1.12.10.1.3"
_X509: Final = "1.2.840.113549.1.9.22.1"
_IN_0: Final = 0xA0

_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class CertificateUnusable(Exception):
    """`code`: `certificate_unusable` or `certificate_expired`; the text says no more."""

    def __init__(self, code: str = "certificate_unusable") -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`pem`: certificate, issuers and key, not encrypted; `expires_at` in Unix seconds."""

    pem: str = field(repr=False)
    expires_at: int


def open_pkcs12(raw: bytes, password: str) -> ClientCertificate:
    """Open a file; costs at most `ciphers.MOST_ROUNDS` rounds of key derivation.

    Raises:
        CertificateUnusable: not such a file, not with this password, too costly, without a key and
            its certificate, or expired.
    """
    if len(raw) > LONGEST:
        raise CertificateUnusable
    try:
        keys, certificates = _contents(raw, password)
        key, certificate = _pair(keys, certificates)
        ends = certificate.not_valid_after_utc
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError):
        raise CertificateUnusable from None
    if ends <= datetime.now(UTC):
        raise CertificateUnusable("certificate_expired")
    issuers = [other for other in certificates if other != certificate]
    parts = [each.public_bytes(serialization.Encoding.PEM) for each in (certificate, *issuers)]
    parts.append(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ClientCertificate(b"".join(parts).decode("ascii"), int(ends.timestamp()))


def _contents(raw: bytes, password: str) -> tuple[list[_Key], list[x509.Certificate]]:
    rounds = Rounds()
    file = read(raw).whole(SEQUENCE)
    keys: list[_Key] = []
    certificates: list[x509.Certificate] = []
    for safe in _inner(file.part(1, SEQUENCE)).parts:
        for bag in _safe(safe, password, rounds).parts:
            kind, value = bag.part(0, OID).oid(), _only(bag.part(1, _IN_0))
            if kind == _KEY:
                keys.append(_key(value.raw))
            elif kind == _ENCRYPTED_KEY:
                sealed = value.part(1, OCTETS).content
                keys.append(_key(decrypt(value.part(0, SEQUENCE), sealed, password, rounds)))
            elif kind == _CERTIFICATE and value.part(0, OID).oid() == _X509:
                der = _only(value.part(1, _IN_0)).octets()
                certificates.append(x509.load_der_x509_certificate(der))
            if len(certificates) > _MOST_CERTIFICATES or len(keys) > 1:
                raise Malformed
    return keys, certificates


def _inner(content: Node) -> Node:
    """What a ContentInfo of type data holds: a SEQUENCE."""
    if content.part(0, OID).oid() != _DATA:
        raise Malformed
    return read(_only(content.part(1, _IN_0)).octets()).whole(SEQUENCE)


def _safe(content: Node, password: str, rounds: Rounds) -> Node:
    """The SafeContents of one part of the file."""
    if content.part(0, OID).oid() != _ENCRYPTED_DATA:
        return _inner(content)
    info = _only(content.part(1, _IN_0)).part(1, SEQUENCE)
    if len(info.parts) != 3 or info.parts[2].tag not in (0x80, _IN_0):
        raise Malformed
    sealed = info.parts[2].octets()
    return read(decrypt(info.part(1, SEQUENCE), sealed, password, rounds)).whole(SEQUENCE)


def _only(node: Node) -> Node:
    if len(node.parts) != 1:
        raise Malformed
    return node.parts[0]


def _key(der: bytes) -> _Key:
    if len(der) > _LONGEST_KEY:
        raise Malformed
    key = serialization.load_der_private_key(der, None)
    if not isinstance(key, _Key):
        raise Malformed
    return key


def _pair(keys: list[_Key], certificates: list[x509.Certificate]) -> tuple[_Key, x509.Certificate]:
    for key in keys:
        for certificate in certificates:
            if certificate.public_key() == key.public_key():
                return key, certificate
    raise Malformed
