"""The secure channel: the key and certificate with which a deployment signs what it sends.

The certificate is self-signed: the relay's operator registers it, and from then on trusts its key
and nothing else about it.
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from joserfc import jws
from joserfc.jwk import ECKey

_LIFETIME = timedelta(days=3650)


class ChannelUnusable(Exception):
    """The PEM holds no P-256 key with its certificate; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A loaded key with its certificate's `x5t#S256` (RFC 7515, section 4.1.8)."""

    key: ECKey = field(repr=False)
    thumbprint: str

    def sign(self, audience: str, method: str, path: str, body: bytes, now: float) -> str:
        """The value of `ENS-Signature` for one request, good for one call within a minute."""
        claims = {
            "aud": audience,
            "htm": method,
            "htu": path,
            "iat": int(now),
            "nonce": secrets.token_urlsafe(24),
            "body": _base64url(sha256(body).digest()),
        }
        header = {"alg": "ES256", "x5t#S256": self.thumbprint}
        return jws.serialize_compact(header, json.dumps(claims), self.key, algorithms=["ES256"])


def load_channel(pem: bytes) -> Channel:
    """Read what `make_channel` made.

    Raises:
        ChannelUnusable: key or certificate is missing, malformed, or they don't belong together.
    """
    try:
        private = load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError):
        raise ChannelUnusable("no private key with its certificate in PEM") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise ChannelUnusable("the private key is not on P-256")
    if certificate.public_key() != private.public_key():
        raise ChannelUnusable("the certificate is not of this private key")
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Channel(
        ECKey.import_key(key.decode("ascii")),
        _base64url(sha256(certificate.public_bytes(Encoding.DER)).digest()),
    )


def make_channel(name: str) -> tuple[bytes, bytes]:
    """A new P-256 key and its self-signed certificate, good for ten years, each in PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, certificate.public_bytes(Encoding.PEM)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
