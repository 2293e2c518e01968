from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.keypairs import sealing
from apps.keypairs.models import SealedCredential
from apps.keypairs.sealing import UnsealFailed, seal, shred, unseal, unseal_many

pytestmark = pytest.mark.django_db
SHORT = b'{"type":"basic","username":"EXAMPLE\\\\anna","password":"correct horse"}'
LONG = SHORT * 50
ROOM = 1900
in_one_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def flip(creds: str, position: int, mask: int) -> str:
    raw = bytearray(urlsafe_b64decode(creds + "=" * (-len(creds) % 4)))
    raw[position] ^= mask
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@in_one_database
@given(st.binary(max_size=3000), st.integers(66, 2000))
def test_what_was_sealed_unseals_and_fits_the_room(plaintext: bytes, room: int) -> None:
    subscription_id = uuid4()
    creds = seal(subscription_id, plaintext, room)
    assert len(creds) <= room
    assert set(creds) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert unseal(subscription_id, creds) == plaintext


def test_short_credentials_stand_in_the_url_and_long_ones_in_the_row() -> None:
    short, long = uuid4(), uuid4()
    seal(short, SHORT, ROOM)
    creds = seal(long, LONG, ROOM)
    assert SealedCredential.objects.get(pk=short).ciphertext == b""
    assert len(SealedCredential.objects.get(pk=long).ciphertext) == len(LONG) + 16
    assert len(creds) == 66


def test_the_room_is_used_to_the_last_character() -> None:
    exact = seal(uuid4(), SHORT, ROOM)
    assert seal(subscription := uuid4(), SHORT, len(exact)) and subscription
    assert SealedCredential.objects.get(pk=subscription).ciphertext == b""
    seal(subscription := uuid4(), SHORT, len(exact) - 1)
    assert SealedCredential.objects.get(pk=subscription).ciphertext != b""


def test_too_little_room_for_a_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="65 characters are too few"):
        seal(uuid4(), LONG, 65)
    assert SealedCredential.objects.count() == 0


@pytest.mark.parametrize("plaintext", [SHORT, LONG])
def test_every_changed_byte_fails_and_so_does_a_changed_kind(plaintext: bytes) -> None:
    subscription_id = uuid4()
    creds = seal(subscription_id, plaintext, ROOM)
    for position in range(len(creds) * 3 // 4):
        with pytest.raises(UnsealFailed):
            unseal(subscription_id, flip(creds, position, 0x10))
    for kind in range(1, 256):
        with pytest.raises(UnsealFailed):
            unseal(subscription_id, flip(creds, 0, kind))


@pytest.mark.parametrize("plaintext", [SHORT, LONG])
def test_creds_of_another_subscription_fail_even_with_its_row(plaintext: bytes) -> None:
    mine, other = uuid4(), uuid4()
    creds = seal(mine, plaintext, ROOM)
    seal(other, plaintext, ROOM)
    with pytest.raises(UnsealFailed):
        unseal(other, creds)
    row = SealedCredential.objects.get(pk=mine)
    SealedCredential.objects.filter(pk=other).update(
        wrapped_key=row.wrapped_key, ciphertext=row.ciphertext
    )
    with pytest.raises(UnsealFailed):
        unseal(other, creds)


@in_one_database
@given(st.text())
def test_hostile_creds_only_fail(creds: str) -> None:
    for plaintext in (SHORT, LONG):
        subscription_id = uuid4()
        sealed = seal(subscription_id, plaintext, ROOM)
        for hostile in (
            creds,
            sealed + creds + "=",
            creds + sealed + "A",
            sealed[: len(creds) % len(sealed)],
        ):
            with pytest.raises(UnsealFailed):
                unseal(subscription_id, hostile)


@pytest.mark.parametrize("creds", ["", "A", "AQ", "Ag", "A" * 2083, "\ud800", "AQ==", "AQ\n"])
def test_malformed_creds_fail(creds: str) -> None:
    subscription_id = uuid4()
    seal(subscription_id, SHORT, ROOM)
    with pytest.raises(UnsealFailed):
        unseal(subscription_id, creds)


@pytest.mark.parametrize("plaintext", [SHORT, LONG])
def test_shredded_credentials_never_open_again(plaintext: bytes) -> None:
    kept, shredded = uuid4(), uuid4()
    kept_creds, creds = seal(kept, plaintext, ROOM), seal(shredded, plaintext, ROOM)
    shred([shredded, uuid4()])
    with pytest.raises(UnsealFailed):
        unseal(shredded, creds)
    assert unseal(kept, kept_creds) == plaintext


def test_a_subscription_is_sealed_once() -> None:
    subscription_id = uuid4()
    creds = seal(subscription_id, SHORT, ROOM)
    with pytest.raises(IntegrityError), transaction.atomic():
        seal(subscription_id, b"other", ROOM)
    assert unseal(subscription_id, creds) == SHORT


def test_many_are_opened_with_few_queries_and_bad_ones_left_out() -> None:
    sealed: dict[UUID, str] = {}
    for number in range(30):
        subscription_id = uuid4()
        sealed[subscription_id] = seal(subscription_id, b"%d" % number, ROOM)
    bad = list(sealed)[7]
    sealed[bad] = flip(sealed[bad], 5, 1)
    sealed[uuid4()] = "AQ"
    with CaptureQueriesContext(connection) as queries:
        opened = unseal_many(sealed)
    assert len(queries) == 1
    assert bad not in opened
    assert sorted(map(int, opened.values())) == [n for n in range(30) if n != 7]


def test_portions_stay_below_the_parameters_of_sql_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "_ROWS_A_QUERY", 4)
    sealed = {(number := uuid4()): seal(number, SHORT, ROOM) for _ in range(9)}
    with CaptureQueriesContext(connection) as queries:
        assert len(unseal_many(sealed)) == 9
    assert len(queries) == 3
    shred(sealed)
    assert SealedCredential.objects.count() == 0


@pytest.mark.parametrize("plaintext", [SHORT, LONG])
def test_neither_the_row_nor_the_url_holds_anything_in_clear(plaintext: bytes) -> None:
    subscription_id = uuid4()
    creds = seal(subscription_id, plaintext, ROOM)
    row = SealedCredential.objects.get(pk=subscription_id)
    kept = bytes(row.wrapped_key) + bytes(row.ciphertext)
    assert b"correct horse" not in kept + urlsafe_b64decode(creds + "==")


@pytest.mark.parametrize("plaintext", [SHORT, LONG])
def test_wrapping_the_row_anew_is_all_that_a_new_master_key_needs(
    plaintext: bytes, use_master_keys: Callable[..., None]
) -> None:
    subscription_id = uuid4()
    use_master_keys(old=b"o" * 32)
    creds = seal(subscription_id, plaintext, ROOM)
    use_master_keys(new=b"n" * 32, old=b"o" * 32)
    row = SealedCredential.objects.get(pk=subscription_id)
    place = {"table": "keypairs_sealedcredential", "row": str(subscription_id)}
    key = sealing.unwrap(row.wrapped_key, **place, purpose="sealing")
    row.wrapped_key = sealing.wrap(key, **place, purpose="sealing")
    row.save()
    use_master_keys(new=b"n" * 32)
    assert unseal(subscription_id, creds) == plaintext


def test_without_its_master_key_nothing_unseals(use_master_keys: Callable[..., None]) -> None:
    subscription_id = uuid4()
    use_master_keys(old=b"o" * 32)
    creds = seal(subscription_id, SHORT, ROOM)
    use_master_keys(old=b"x" * 32)
    with pytest.raises(UnsealFailed):
        unseal(subscription_id, creds)
