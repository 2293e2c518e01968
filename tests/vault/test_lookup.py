from __future__ import annotations

import hashlib
import hmac

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.vault import keys, lookup
from apps.vault.lookup import lookup_hmac
from apps.vault.models import VaultKey

pytestmark = pytest.mark.django_db


def test_is_the_documented_hmac() -> None:
    key = keys.load(VaultKey.Kind.LOOKUP)[1]
    message = b"\x00\x00\x00\x07mailbox" + "Änne".encode()
    assert lookup_hmac("mailbox", "Änne") == hmac.new(key, message, hashlib.sha256).hexdigest()
    assert lookup_hmac("mailbox", "Änne") == lookup_hmac("mailbox", "Änne".encode())


def test_domains_share_nothing_and_borders_hold() -> None:
    seen = {lookup_hmac(*pair) for pair in [("a", "bc"), ("ab", "c"), ("b", "bc"), ("", "abc")]}
    assert len(seen) == 4


def test_costs_no_query_once_cached() -> None:
    lookup.forget()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        first = lookup_hmac("a", "b")
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert lookup_hmac("a", "b") == first
    assert len(queries) == 0


def test_the_first_key_stays_the_lookup_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lookup_hmac("a", "b")
    found = keys.load(VaultKey.Kind.LOOKUP)
    lookup.forget()
    monkeypatch.setattr(keys, "load", lambda _kind: {2: b"2" * 32} | found)
    assert lookup_hmac("a", "b") == before
