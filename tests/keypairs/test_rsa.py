from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from apps.keypairs import rsa
from apps.keypairs.models import KeyPair
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return KeyPair(**rsa.generate(2048))


def test_what_is_loaded_is_what_was_made_and_the_checks_left_out_would_pass(
    pair: KeyPair,
) -> None:
    loaded = rsa.load(pair).private_key
    assert loaded is not None
    blob = loaded.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    checked = load_der_private_key(blob, None)
    assert checked.public_key() == loaded.public_key()
    assert rsa.load(pair).as_dict() == pair.public_jwk


def test_nothing_private_is_stored_in_clear(pair: KeyPair) -> None:
    assert not {"d", "p", "q", "dp", "dq", "qi"} & pair.public_jwk.keys()
    loaded = rsa.load(pair).private_key
    assert loaded is not None
    secret = loaded.private_numbers().p.to_bytes(128, "big")
    assert secret not in bytes(pair.wrapped_private)


def test_loading_does_not_revalidate(pair: KeyPair) -> None:
    blob = unwrap(pair.wrapped_private, table="keypairs_keypair", row=pair.kid, purpose="private")
    begun = time.perf_counter()
    for _ in range(10):
        rsa.load(pair)
    loading = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(10):
        load_der_private_key(blob, None)
    assert loading < (time.perf_counter() - begun) / 10


def test_a_blob_of_another_pair_or_purpose_does_not_load(pair: KeyPair) -> None:
    other = KeyPair(**rsa.generate(2048))
    other.wrapped_private = pair.wrapped_private
    with pytest.raises(UnwrapFailed):
        rsa.load(other)
    other.wrapped_private = wrap(b"x", table="keypairs_keypair", row=other.kid, purpose="other")
    with pytest.raises(UnwrapFailed):
        rsa.load(other)
