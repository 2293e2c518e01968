"""The secure channel's key, certificate and signature."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws

from apps.cns.channel import ChannelUnusable, load_channel, make_channel


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_signature_binds_request_body_and_moment() -> None:
    key, certificate = make_channel("ENS")
    channel = load_channel(key + certificate)
    token = channel.sign("https://cns.example", "POST", "/nws/notify/apns", b"body", 1234.9)
    found = jws.deserialize_compact(token, channel.key, algorithms=["ES256"])
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    thumbprint = urlsafe_b64encode(sha256(der).digest()).rstrip(b"=").decode()
    assert found.headers() == {"alg": "ES256", "x5t#S256": thumbprint}
    claims = json.loads(found.payload)
    assert len(urlsafe_b64decode(claims.pop("nonce"))) == 24
    assert claims == {
        "aud": "https://cns.example",
        "htm": "POST",
        "htu": "/nws/notify/apns",
        "iat": 1234,
        "body": urlsafe_b64encode(sha256(b"body").digest()).rstrip(b"=").decode(),
    }


def test_no_two_signatures_share_a_nonce() -> None:
    channel = load_channel(b"".join(make_channel("ENS")))
    payloads = {channel.sign("a", "POST", "/", b"", 0).split(".")[1] for _ in range(50)}
    assert len(payloads) == 50


def test_the_certificate_comes_before_or_after_the_key() -> None:
    key, certificate = make_channel("ENS")
    assert load_channel(key + certificate).thumbprint == load_channel(certificate + key).thumbprint


def test_what_cannot_sign_is_refused_and_not_shown() -> None:
    key, certificate = make_channel("ENS")
    other = make_channel("other")[1]
    for given in (
        b"",
        b"nonsense",
        key,
        certificate,
        key + other,
        pem(ed25519.Ed25519PrivateKey.generate()) + certificate,
        pem(ec.generate_private_key(ec.SECP384R1())) + certificate,
    ):
        with pytest.raises(ChannelUnusable) as refused:
            load_channel(given)
        assert "MI" not in str(refused.value)


def test_a_channel_does_not_show_its_key() -> None:
    channel = load_channel(b"".join(make_channel("ENS")))
    assert repr(channel) == f"Channel(thumbprint={channel.thumbprint!r})"
