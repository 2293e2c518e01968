"""Whether an iOS app's credentials are fit, before they are sealed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from apps.relay.providers import Checked, CredentialsUnfit
from apps.relay.providers.apns import certificate as apple
from apps.relay.providers.apns.credentials import Certificate, pack_certificate, pack_key
from apps.relay.providers.apns.token import SigningKey
from apps.wire.pkcs12 import Pkcs12, Pkcs12Unreadable, open_pkcs12

# A certificate with its key and chain is some 5 KB.
MAX_UPLOAD_BYTES: Final = 64 * 1024
_APPLE_ID = re.compile(r"[A-Z0-9]{10}")


def check_key(p8: bytes, key_id: str, team_id: str) -> Checked:
    """Apple's `AuthKey_<key id>.p8` with its two ids.

    Raises:
        CredentialsUnfit: key_id_malformed, team_id_malformed, key_unreadable (no private key in
            PEM without a password), key_not_p256.
    """
    if not _APPLE_ID.fullmatch(key_id):
        raise CredentialsUnfit("key_id_malformed")
    if not _APPLE_ID.fullmatch(team_id):
        raise CredentialsUnfit("team_id_malformed")
    try:
        key = load_pem_private_key(p8[:MAX_UPLOAD_BYTES], password=None)
    except (ValueError, TypeError):
        raise CredentialsUnfit("key_unreadable") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise CredentialsUnfit("key_not_p256")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    packed = pack_key(SigningKey(key_id, team_id, pem))
    return Checked(packed, None, {"kind": "token", "key_id": key_id, "team_id": team_id})


def check_certificate(p12: bytes, password: str, app: str, *, sandbox: bool) -> Checked:
    """A push certificate with its key as `.p12`, as the Keychain and others export it.

    Raises:
        CredentialsUnfit: p12_unreadable, password_wrong, certificate_missing, key_missing,
            key_mismatch (the key is not the certificate's), key_unsuitable (neither RSA of 2048
            bits or more nor P-256), certificate_not_yet_valid, certificate_expired,
            certificate_malformed, not_a_push_certificate (without topic or environment),
            topic_mismatch (it is not for this app), environment_mismatch.
    """
    opened = _open(p12, password)
    key, certificate = _pair(opened)
    _check_time(certificate)
    topics, environments = _apple_says(certificate)
    if not topics or not environments:
        raise CredentialsUnfit("not_a_push_certificate")
    if app not in topics:
        raise CredentialsUnfit("topic_mismatch")
    if ("sandbox" if sandbox else "production") not in environments:
        raise CredentialsUnfit("environment_mismatch")
    chain = [certificate, *opened.others]
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    summary = {
        "kind": "certificate",
        "topics": ",".join(topics),
        "environments": ",".join(environments),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    return Checked(pack_certificate(Certificate(pem)), certificate.not_valid_after_utc, summary)


def _open(p12: bytes, password: str) -> Pkcs12:
    try:
        return open_pkcs12(p12[:MAX_UPLOAD_BYTES], password)
    except Pkcs12Unreadable as unreadable:
        raise CredentialsUnfit(unreadable.code) from None


def _pair(
    opened: Pkcs12,
) -> tuple[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, x509.Certificate]:
    key = opened.key
    if key is None:
        raise CredentialsUnfit("key_missing")
    good_rsa = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048
    good_ec = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
    if not (good_rsa or good_ec):
        raise CredentialsUnfit("key_unsuitable")
    if opened.certificate is None:
        raise CredentialsUnfit("key_mismatch" if opened.others else "certificate_missing")
    certificate = opened.certificate
    if certificate.public_key() != key.public_key():
        raise CredentialsUnfit("key_mismatch")
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key, certificate


def _check_time(certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        raise CredentialsUnfit("certificate_not_yet_valid")
    if now >= certificate.not_valid_after_utc:
        raise CredentialsUnfit("certificate_expired")


def _apple_says(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    try:
        return apple.topics(certificate), apple.environments(certificate)
    except apple.CertificateOdd:
        raise CredentialsUnfit("certificate_malformed") from None
