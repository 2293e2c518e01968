"""From a phone's PKCS#12 file: the certificate, its issuers and its key, in PEM."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from apps.wire.pkcs12 import Pkcs12, Pkcs12Unreadable, open_pkcs12

LONGEST: Final = 8192
_MOST_ISSUERS: Final = 7

_KEYS = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)


class CertificateUnusable(Exception):
    """`code`: `certificate_unusable`, `certificate_expired`, or `busy`; the text says no more."""

    def __init__(self, code: str = "certificate_unusable") -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`pem`: certificate, issuers and key, not encrypted; `expires_at` in Unix seconds."""

    pem: str = field(repr=False)
    expires_at: int


def read_client_certificate(raw: bytes, password: str) -> ClientCertificate:
    """Open a file; blocks for some 0.2 s, at worst ten (`apps.wire.pkcs12`).

    Raises:
        CertificateUnusable: not such a file, not with this password, too costly, without a key and
            its certificate, or expired; `busy` when others are being opened.
    """
    if len(raw) > LONGEST:
        raise CertificateUnusable
    try:
        opened = open_pkcs12(raw, password)
    except Pkcs12Unreadable as unreadable:
        busy = unreadable.code == "busy"
        raise CertificateUnusable("busy" if busy else "certificate_unusable") from None
    return _checked(opened)


def _checked(opened: Pkcs12) -> ClientCertificate:
    key, certificate = opened.key, opened.certificate
    if certificate is None or not isinstance(key, _KEYS) or len(opened.others) > _MOST_ISSUERS:
        raise CertificateUnusable
    try:
        is_pair = certificate.public_key() == key.public_key()
        ends = certificate.not_valid_after_utc
    except Exception:  # noqa: BLE001 - a malformed certificate raises whatever, quoting itself
        raise CertificateUnusable from None
    if not is_pair:
        raise CertificateUnusable
    if ends <= datetime.now(UTC):
        raise CertificateUnusable("certificate_expired")
    chain = (certificate, *opened.others)
    parts = [each.public_bytes(serialization.Encoding.PEM) for each in chain]
    parts.append(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ClientCertificate(b"".join(parts).decode("ascii"), int(ends.timestamp()))
