"""Credentials of every type, from a phone's JWE to what a worker unseals."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from apps.eventlog.models import LogEntry
from apps.exchange.interface import Credentials
from apps.keypairs.models import SealedCredential
from apps.subscriptions import joining
from apps.subscriptions.entries import JoinWork
from apps.subscriptions.models import Subscription
from tests.api.conftest import Api
from tests.exchange.auth.test_client_certificate import certificate, file, rsa_key

pytestmark = pytest.mark.django_db(transaction=True)

SOON = int(time.time()) + 3600


def of_certificate(raw: bytes, **more: str) -> dict[str, Any]:
    encoded = b64encode(raw).decode()
    return {"type": "certificate", "pkcs12": encoded, "pkcs12_password": "Pä55wörd ☕"} | more


def unsealed() -> Credentials:
    """What the worker that takes the join would find."""
    work = JoinWork.from_bytes(bytes(LogEntry.objects.get().payload))
    subscription = Subscription.objects.get()
    return joining.open_many({subscription.id: work.creds})[subscription.id]


@pytest.mark.parametrize(
    ("given", "in_url"),
    [
        ({"type": "basic", "username": "EXAMPLE\\anna", "password": "x"}, True),
        ({"type": "ntlm", "username": "anna@example.com", "password": "x"}, True),
        ({"type": "negotiate", "username": "anna", "password": "x" * 512}, True),
        ({"type": "basic", "username": "anna", "password": "\u2615" * 512}, False),
        ({"type": "ntlm", "username": "anna", "password": "\u2615" * 512}, False),
        ({"type": "negotiate", "username": "anna", "password": "\u2615" * 512}, False),
        ({"type": "oauth", "token": "e30.e30.short", "expires_at": SOON}, True),
        ({"type": "oauth", "token": "e" * 8192, "expires_at": SOON}, False),
    ],
    ids=lambda given: given["type"] if isinstance(given, dict) else "in URL" if given else "in row",
)
def test_they_come_to_the_worker_as_they_were(api: Api, given: Any, in_url: bool) -> None:
    assert api.subscribe(credentials=given).status_code == 202
    assert unsealed() == Credentials(**given)
    # One way round or the other.
    assert (bytes(SealedCredential.objects.get().ciphertext) == b"") == in_url
    expires = Subscription.objects.get().credentials_expire_at
    assert (expires and expires.timestamp()) == given.get("expires_at")


def test_a_certificate_is_opened_once_and_sealed_in_pem(api: Api) -> None:
    key = rsa_key()
    given = of_certificate(file(key), username="EXAMPLE\\anna", password="secret")
    assert api.subscribe(credentials=given).status_code == 202
    found = unsealed()
    assert (found.type, found.username, found.password) == (
        "certificate",
        "EXAMPLE\\anna",
        "secret",
    )
    loaded = serialization.load_pem_private_key(found.certificate.encode(), None)
    assert loaded.public_key() == key.public_key()
    assert Subscription.objects.get().credentials_expire_at.timestamp() == found.expires_at  # type: ignore[union-attr]
    assert b"PRIVATE KEY" not in bytes(SealedCredential.objects.get().ciphertext)


def test_a_short_certificate_fits_the_url(api: Api) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert api.subscribe(credentials=of_certificate(file(key))).status_code == 202
    assert bytes(SealedCredential.objects.get().ciphertext) == b""
    assert unsealed().certificate.startswith("-----BEGIN CERTIFICATE-----")


def test_the_longest_certificate_is_taken(api: Api) -> None:
    above = [certificate(rsa_key(), f"{number}") for number in range(7)]
    raw = file(rsa_key(), None, above)
    assert 6500 < len(raw) <= 8192
    sent = api.subscribe(credentials=of_certificate(raw), push_token="ab" * 100)
    assert sent.status_code == 202


def expired() -> bytes:
    key = rsa_key()
    return file(key, certificate(key, days=-1))


def costly() -> bytes:
    return file(rounds=100).replace(b"\x02\x01\x64", b"\x02\x04\x77\x35\x94\x00")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (
            {"type": "oauth", "token": "t", "expires_at": int(time.time()) - 1},
            "credentials_expired",
        ),
        (lambda: of_certificate(expired()), "certificate_expired"),
        (lambda: of_certificate(costly()), "certificate_unusable"),
        (lambda: of_certificate(b"hush"), "certificate_unusable"),
        (lambda: of_certificate(file()) | {"pkcs12_password": "wrong"}, "certificate_unusable"),
        (lambda: of_certificate(file(), username="anna"), "malformed"),
        (lambda: of_certificate(bytes(8195)), "malformed"),
        ({"type": "certificate", "pkcs12": "!", "pkcs12_password": ""}, "malformed"),
        ({"type": "certificate", "pkcs12": "AAAA"}, "malformed"),
        ({"type": "oauth", "token": "t"}, "malformed"),
        ({"type": "oauth", "token": "two words", "expires_at": SOON}, "malformed"),
        ({"type": "oauth", "token": "a\r\nX: b", "expires_at": SOON}, "malformed"),
        ({"type": "oauth", "token": "t" * 8193, "expires_at": SOON}, "malformed"),
        ({"type": "oauth", "token": "t", "expires_at": 10**12}, "malformed"),
        ({"type": "oauth", "token": "t", "expires_at": SOON, "username": "a"}, "malformed"),
        ({"type": "ntlm", "username": "an\tna", "password": "x"}, "malformed"),
        ({"type": "ntlm", "username": "anna", "password": "x", "token": "t"}, "malformed"),
        # Windows' own login takes nobody's name for that of the account ENS runs under.
        ({"type": "ntlm", "username": "\\", "password": "x"}, "malformed"),
        ({"type": "basic", "username": "EXAMPLE\\", "password": "x"}, "malformed"),
        ({"type": "negotiate", "username": "@example.com", "password": "x"}, "malformed"),
        ({"type": "ntlm", "username": " ", "password": "x"}, "malformed"),
        ({"type": ["basic"]}, "malformed"),
        ({"type": {}}, "malformed"),
        ("basic", "malformed"),
        ([], "malformed"),
    ],
)
def test_what_is_refused(api: Api, given: Any, code: str) -> None:
    answer = api.subscribe(credentials=given() if callable(given) else given)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not Subscription.objects.exists()
    assert "hush" not in answer.content.decode()


def test_what_is_malformed_is_named(api: Api) -> None:
    answer = api.subscribe(credentials={"type": "oauth", "token": "t"})
    assert answer.json()["detail"] == "credentials.expires_at: required"
    answer = api.subscribe(credentials={"type": "magic"})
    assert answer.json()["detail"] == "credentials.type: invalid_choice"


def test_a_certificate_without_a_password(api: Api) -> None:
    key = rsa_key()
    raw = pkcs12.serialize_key_and_certificates(
        None, key, certificate(key), None, serialization.NoEncryption()
    )
    given = of_certificate(raw) | {"pkcs12_password": ""}
    assert api.subscribe(credentials=given).status_code == 202
