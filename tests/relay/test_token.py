"""The provider token is the same wherever it is made, and is never refused for its age."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from apps.lab.apns.providers import Providers
from apps.relay.providers.apns.token import SigningKey, _signed, provider_token

NOON = 1_800_000_000.0


@pytest.fixture
def key() -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    p8 = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey("KEYID12345", "TEAM123456", p8)


def apns(key: SigningKey) -> Providers:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    public = load_pem_private_key(key.p8, None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    providers = Providers()
    providers.add(key.key_id, key.team_id, pem, frozenset(["com.example.mail"]))
    return providers


def test_apns_takes_every_token_for_three_days(key: SigningKey) -> None:
    """Asked every minute: never too old, from the future or renewed too often."""
    providers = apns(key)
    tokens = set()
    for minute in range(3 * 24 * 60):
        token = provider_token(key, NOON + 60 * minute)
        tokens.add(token)
        providers.check({"authorization": f"bearer {token}"}, NOON + 60 * minute)
    assert 3 * 36 <= len(tokens) <= 3 * 36 + 1


def test_apns_clock_may_be_behind_or_ahead_by_a_minute(key: SigningKey) -> None:
    for second in range(0, 5000, 7):
        token = provider_token(key, NOON + second)
        for skew in (-60, 60):
            apns_now = NOON + second + skew
            apns(key).check({"authorization": f"bearer {token}"}, apns_now)


def test_another_process_arrives_at_the_same_token(key: SigningKey) -> None:
    here = provider_token(key, NOON)
    _signed.cache_clear()
    assert provider_token(SigningKey(key.key_id, key.team_id, key.p8), NOON + 1) == here


def test_a_replaced_key_is_not_served_from_the_cache(key: SigningKey) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    p8 = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replaced = SigningKey(key.key_id, key.team_id, p8)
    assert provider_token(key, NOON) != provider_token(replaced, NOON)


def test_the_key_is_not_shown(key: SigningKey) -> None:
    assert "PRIVATE" not in repr(key)
