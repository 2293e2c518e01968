from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.vault import keys, urlmac
from apps.vault.models import VaultKey
from apps.vault.urlmac import sign, verify
from apps.vault.wrapping import wrap

pytestmark = pytest.mark.django_db
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    urlmac.forget()
    yield
    urlmac.forget()


def add_key(number: int) -> None:
    wrapped = wrap(
        bytes([number]) * 32, table="vault_key", row=f"url_mac:{number}", purpose="url_mac"
    )
    VaultKey.objects.create(
        kind=VaultKey.Kind.URL_MAC, number=number, wrapped=wrapped, created_at=timezone.now()
    )


def test_what_was_signed_verifies_and_fits_a_url() -> None:
    key_id, mac = sign("subscription")
    assert key_id == "1"
    assert len(mac) == 22 and set(mac) <= set(BASE64URL)
    assert verify("subscription", key_id, mac)
    assert not verify("subscriptioN", key_id, mac)


def test_every_other_spelling_of_a_mac_is_refused() -> None:
    """The last of 22 characters has four bits to spare: decoders take 16 spellings for one."""
    key_id, mac = sign("subscription")
    for position in range(len(mac)):
        for character in BASE64URL:
            other = mac[:position] + character + mac[position + 1 :]
            assert verify("subscription", key_id, other) == (other == mac)
    for other in (mac + "=", mac + "==", mac + "\n", " " + mac, mac[:-1], "", mac.encode().hex()):
        assert not verify("subscription", key_id, other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.text())
def test_hostile_strings_only_fail(message: str, key_id: str, mac: str) -> None:
    assert not verify(message, key_id, mac)
    assert not verify(message, "1", mac)


def test_lone_surrogates_only_fail() -> None:
    assert not verify("\ud800", "1", "\udfff" * 22)


def test_no_query_once_cached_and_one_for_many_unknown_ids() -> None:
    key_id, mac = sign("m")
    with CaptureQueriesContext(connection) as queries:
        assert all(verify("m", key_id, mac) for _ in range(10))
    assert len(queries) == 0
    with CaptureQueriesContext(connection) as queries:
        assert not any(verify("m", str(number), mac) for number in range(100, 200))
    assert len(queries) == 1


def test_a_key_of_another_process_is_found_after_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("apps.vault.urlmac.time.monotonic", lambda: now)
    key_id, mac = sign("m")
    assert not verify("m", "2", mac)
    add_key(2)
    other_process = urlmac.KeyRing()
    new_id, new_key = other_process.newest()
    new_mac = urlmac._mac(new_key, "m")
    assert new_id == "2"
    now += 4.9
    assert not verify("m", "2", new_mac)
    now += 0.2
    assert verify("m", "2", new_mac)
    assert verify("m", key_id, mac), "the old key stays"
    assert sign("m") == ("2", new_mac)


def test_numbers_are_compared_as_numbers() -> None:
    for number in range(2, 11):
        add_key(number)
    assert sign("m")[0] == "10"


def test_an_id_has_one_spelling() -> None:
    _key_id, mac = sign("m")
    assert not any(verify("m", other, mac) for other in ("01", "1 ", "+1", "١", "1.0", ""))


def test_a_database_that_is_away_at_the_start_is_an_error_and_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key_id, mac = sign("m")
    urlmac.forget()
    with monkeypatch.context() as away:
        away.setattr(keys, "load", lambda _kind: (_ for _ in ()).throw(OperationalError))
        for _ in range(2):
            with pytest.raises(OperationalError):
                verify("m", key_id, mac)
    assert verify("m", key_id, mac)


def test_missing_keys_are_an_error_not_a_refusal() -> None:
    VaultKey.objects.all().delete()
    with pytest.raises(keys.VaultKeyMissing):
        verify("m", "1", "x" * 22)
