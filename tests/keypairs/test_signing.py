"""Signing keys: there is always one to sign with, and phones know it long before."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from apps.keypairs import signing
from apps.keypairs.models import SigningKey
from apps.tenants.groups import create_group
from apps.tenants.models import OrganizationGroup

pytestmark = pytest.mark.django_db


@pytest.fixture
def og() -> OrganizationGroup:
    return create_group("Example")


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    moment = datetime.now(timezone.now().tzinfo) + timedelta(days=days)
    monkeypatch.setattr(signing.timezone, "now", lambda: moment)


def signer(og: OrganizationGroup) -> signing.Signer:
    found = signing.current(og)
    assert found is not None
    return found


def test_there_is_none_before_the_first_rotation(og: OrganizationGroup) -> None:
    assert (signing.current(og), signing.public_keys(og)) == (None, {"keys": []})


def test_what_it_signs_is_verified_with_what_phones_are_given(og: OrganizationGroup) -> None:
    signing.rotate()
    compact = signer(og).sign(b"{}")
    keys = KeySet.import_key_set(signing.public_keys(og))  # type: ignore[arg-type]
    assert jws.deserialize_compact(compact, keys, algorithms=["ES256"]).payload == b"{}"
    other = create_group("Other")
    signing.rotate()
    others = KeySet.import_key_set(signing.public_keys(other))  # type: ignore[arg-type]
    with pytest.raises((JoseError, ValueError)):
        jws.deserialize_compact(compact, others, algorithms=["ES256"])


def test_keys_follow_each_other_and_overlap(
    og: OrganizationGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.rotate()
    first = signer(og).kid
    known = [key["kid"] for key in signing.public_keys(og)["keys"]]
    assert (len(known), known[0]) == (2, first)
    signing.rotate()
    assert SigningKey.objects.count() == 2
    later(monkeypatch, 91)
    # The next one, which every phone has known for 90 days, takes over by itself.
    assert signer(og).kid == known[1]
    signing.rotate()
    assert [key["kid"] for key in signing.public_keys(og)["keys"]][:2] == known
    later(monkeypatch, 98)
    signing.rotate()
    assert first not in [key["kid"] for key in signing.public_keys(og)["keys"]]
    assert SigningKey.objects.count() == 2


def test_only_the_vault_opens_the_private_half(og: OrganizationGroup) -> None:
    signing.rotate()
    row = SigningKey.objects.first()
    assert row is not None
    assert "d" not in row.public_jwk
    signing._loaded.cache_clear()
    SigningKey.objects.filter(pk=row.pk).update(kid="0" * 32)
    assert signing.current(og) is None
    assert "ECKey" not in repr(signing.Signer("a", object()))  # type: ignore[arg-type]
