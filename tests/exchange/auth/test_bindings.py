from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from apps.exchange.auth.bindings import server_end_point


def certificate(key: Any, algorithm: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.com")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, algorithm)


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")],
)
def test_the_hash_is_that_of_the_signature(algorithm: Any, digest: str) -> None:
    made = certificate(ec.generate_private_key(ec.SECP256R1()), algorithm)
    found = server_end_point(made.public_bytes(serialization.Encoding.PEM).decode())
    assert found is not None
    der = made.public_bytes(serialization.Encoding.DER)
    assert found.application_data == b"tls-server-end-point:" + hashlib.new(digest, der).digest()


def test_where_there_is_none() -> None:
    pem = certificate(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(
        serialization.Encoding.PEM
    )
    assert [server_end_point(text) for text in (pem.decode(), "", "no certificate")] == [None] * 3
