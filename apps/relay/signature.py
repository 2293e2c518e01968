"""Who calls: the signature over a request, checked against the registered deployments.

The header `ENS-Signature` is a compact JWS (RFC 7515), ES256 and nothing else. Its protected header
names the caller's certificate (`x5t#S256`); its payload binds the signature to this relay, request,
moment and body, as DPoP (RFC 9449) does:
`{"aud", "htm", "htu" (the path), "iat" (Unix s), "nonce", "body" (base64url SHA-256)}`.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from apps.relay import nonces
from apps.relay.models import Deployment
from apps.relay.problems import Refused

MAX_CLOCK_DIFFERENCE_S = 60
# A revocation takes effect within this on every process.
_KNOWN_S = 1.0
# By thumbprint: when it was read, and what was found. Unknown ones are not kept.
_known: dict[str, tuple[float, Deployment]] = {}
_MAX_HEADER_CHARS = 4096
_HEADER_MEMBERS = frozenset(["alg", "typ", "x5t#S256"])
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


class CertificateUnusable(Exception):
    """The file holds no certificate that can sign calls; the text says why."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has signed this call, before its body was read; `take` has the last word."""

    deployment: Deployment
    _body_hash: str
    _nonce: str
    _good_until: float

    def take(self, body: bytes, now: float) -> None:
        """Check the body against the signature and spend the nonce.

        Raises:
            Refused: `body_mismatch` or `nonce_replayed`.
        """
        if self._body_hash != _base64url(sha256(body).digest()):
            raise Refused("body_mismatch")
        nonces.spend(self.deployment, self._nonce, self._good_until, now)


@dataclass(frozen=True, slots=True)
class ReadCertificate:
    """A certificate that can sign calls, alone in its PEM, with its `x5t#S256`."""

    pem: str
    thumbprint: str


def read_certificate(pem: bytes) -> ReadCertificate:
    """Read the first certificate of a PEM file; a private key beside it is left out.

    Raises:
        CertificateUnusable: there is no certificate in it, or it isn't for a P-256 key.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        public = certificate.public_key()
    except ValueError:
        raise CertificateUnusable("not a certificate in PEM") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise CertificateUnusable("its key is not on P-256")
    return ReadCertificate(
        certificate.public_bytes(Encoding.PEM).decode("ascii"),
        _base64url(sha256(certificate.public_bytes(Encoding.DER)).digest()),
    )


def verify(header: str | None, method: str, path: str, audience: str, now: float) -> Caller:
    """Who signed this call. No byte of a stranger's body need be read for it.

    Args:
        header: the value of `ENS-Signature`.
        method: the request's.
        path: the request's, without the query.
        audience: the address by which deployments call this relay.
        now: Unix time.

    Raises:
        Refused: whatever is wrong with it, with a code of its own.
    """
    signed, named = _read(header)
    deployment = _deployment(named)
    certificate = _certificate(deployment.certificate)
    _check_signature(signed, certificate)
    if now > certificate.not_after:
        raise Refused("certificate_expired")
    claims = _object(signed.payload)
    _check_claims(claims, method, path, audience.rstrip("/"), now)
    good_until = claims["iat"] + 2 * MAX_CLOCK_DIFFERENCE_S
    return Caller(deployment, claims["body"], claims["nonce"], good_until)


def _read(header: str | None) -> tuple[jws.CompactSignature, str]:
    if not header:
        raise Refused("signature_missing")
    if len(header) > _MAX_HEADER_CHARS:
        raise Refused("signature_malformed")
    try:
        signed = jws.extract_compact(header.encode())
        protected = signed.headers()
    except (JoseError, ValueError, RecursionError):
        raise Refused("signature_malformed") from None
    if not isinstance(protected, dict) or protected.keys() - _HEADER_MEMBERS:
        raise Refused("signature_malformed")
    named = protected.get("x5t#S256")
    if protected.get("alg") != "ES256" or not isinstance(named, str):
        raise Refused("signature_malformed")
    if not _THUMBPRINT.fullmatch(named):
        raise Refused("signature_malformed")
    return signed, named


def _deployment(named: str) -> Deployment:
    read_at, deployment = _known.get(named, (0.0, None))
    now = time.monotonic()
    if deployment is None or now - read_at > _KNOWN_S:
        deployment = Deployment.objects.filter(thumbprint=named).first()
        # A case-insensitive collation must not take one certificate for another.
        if deployment is None or deployment.thumbprint != named:
            raise Refused("certificate_unknown")
        _known[named] = now, deployment
    if deployment.revoked_at is not None:
        raise Refused("certificate_revoked")
    return deployment


@dataclass(frozen=True, slots=True)
class _Certificate:
    key: ECKey = field(repr=False)
    not_after: float


@lru_cache(maxsize=256)
def _certificate(pem: str) -> _Certificate:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    public = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _Certificate(
        ECKey.import_key(public.decode()), certificate.not_valid_after_utc.timestamp()
    )


def _check_signature(signed: jws.CompactSignature, certificate: _Certificate) -> None:
    try:
        valid = jws.validate_compact(signed, certificate.key, algorithms=["ES256"])
    except (JoseError, ValueError):
        valid = False
    if not valid:
        raise Refused("signature_invalid")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise Refused("signature_malformed") from None
    if not isinstance(found, dict):
        raise Refused("signature_malformed")
    return found


def _check_claims(
    claims: dict[str, Any], method: str, path: str, audience: str, now: float
) -> None:
    issued_at, nonce = claims.get("iat"), claims.get("nonce")
    if type(issued_at) is not int or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise Refused("signature_malformed")
    if not isinstance(claims.get("body"), str):
        raise Refused("body_mismatch")
    if not audience or claims.get("aud") != audience:
        raise Refused("audience_mismatch")
    # Where a proxy strips the path under which the relay is published, callers still sign it.
    paths = (path, urlsplit(audience).path + path)
    if claims.get("htm") != method or claims.get("htu") not in paths:
        raise Refused("request_mismatch")
    if abs(now - issued_at) > MAX_CLOCK_DIFFERENCE_S:
        here = datetime.fromtimestamp(int(now), UTC).isoformat()
        raise Refused("clock_mismatch", f"signed too long ago or ahead of time; it is {here} here")


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
