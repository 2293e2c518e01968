"""API tokens: stored as hashes only, and refused alike whatever is wrong with them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.tenants.groups import create_group
from apps.tenants.models import ApiToken, OrganizationGroup
from apps.tenants.tokens import authenticate, issue_token, revoke, revoke_token, rotate_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def og() -> OrganizationGroup:
    return create_group("Acme")


def test_a_token_names_its_group(og: OrganizationGroup) -> None:
    other = create_group("Other")
    assert authenticate(issue_token(og, "phones")) == og
    assert authenticate(issue_token(other, "phones")) == other


def test_a_token_has_256_random_bits_and_only_its_hash_is_stored(og: OrganizationGroup) -> None:
    token = issue_token(og, "phones")
    assert re.fullmatch(r"ens_[A-Za-z0-9_-]{43}", token)
    row = ApiToken.objects.values().get()
    assert token not in str(row) and token.removeprefix("ens_") not in str(row)
    assert re.fullmatch(r"[0-9a-f]{64}", row["token_hash"])


def test_unknown_expired_and_revoked_tokens_behave_alike(og: OrganizationGroup) -> None:
    now = timezone.now()
    expired = issue_token(og, "expired", now - timedelta(seconds=1))
    revoked = issue_token(og, "revoked", now + timedelta(days=1))
    assert authenticate(revoked) == og
    assert revoke_token(og, "revoked") == 1
    statements = set()
    for token in ("ens_" + "A" * 43, expired, revoked, "", "ens_\ud800", "x" * 100_000):
        with CaptureQueriesContext(connection) as queries:
            assert authenticate(token) is None
        assert len(queries) == 1
        statements.add(re.sub(r"[0-9a-f]{64}", "", queries[0]["sql"]))
    assert len(statements) == 1


def test_revoking_touches_neither_other_labels_nor_other_groups(og: OrganizationGroup) -> None:
    child = create_group("Branch", og)
    kept = [issue_token(og, "b"), issue_token(child, "a")]
    issue_token(og, "a")
    assert revoke_token(og, "a") == 1
    assert revoke_token(og, "a") == 0
    assert [authenticate(token) for token in kept] == [og, child]


def test_a_rotated_token_works_until_the_overlap_ends(og: OrganizationGroup) -> None:
    old = issue_token(og, "phones")
    row = ApiToken.objects.get()
    made, new = rotate_token(row, timedelta(days=7))
    assert (made.label, made.pk != row.pk) == (row.label, True)
    assert authenticate(old) == authenticate(new) == og
    row.refresh_from_db()
    assert row.expires_at is not None
    assert timedelta(days=6) < row.expires_at - timezone.now() <= timedelta(days=7)
    rotate_token(row, timedelta(0))
    assert authenticate(old) is None
    row.refresh_from_db()
    with pytest.raises(ValueError, match="no longer good"):
        rotate_token(row, timedelta(days=1))


def test_rotating_never_lengthens_a_tokens_life(og: OrganizationGroup) -> None:
    soon = timezone.now() + timedelta(hours=1)
    issue_token(og, "phones", soon)
    rotate_token(ApiToken.objects.get(), timedelta(days=7))
    assert ApiToken.objects.get(expires_at=soon)


def test_use_is_noted_once_an_hour(og: OrganizationGroup) -> None:
    token = issue_token(og, "phones")
    authenticate(token)
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    authenticate(token)
    assert ApiToken.objects.get().last_used_at == first
    assert revoke(ApiToken.objects.get()) and not revoke(ApiToken.objects.get())
    assert authenticate(token) is None
