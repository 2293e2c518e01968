"""API tokens: they say which organization group an app belongs to, and authenticate nobody."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps import revocations
from apps.tenants.groups import plain_name
from apps.tenants.models import ApiToken, OrganizationGroup

PREFIX = "ens_"
_USED_EVERY: Final = timedelta(hours=1)


def _hash(token: str) -> str:
    # 256 random bits can't be guessed from their hash, so it needs neither salt nor stretching.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def make_token(
    og: OrganizationGroup, label: str, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Make a token (`ens_` and 256 random bits in base64url): its row, and itself, the only time.

    Raises:
        ValueError: the label is none (groups.plain_name).
    """
    token = PREFIX + secrets.token_urlsafe(32)
    made = ApiToken.objects.create(
        og=og,
        token_hash=_hash(token),
        label=plain_name(label),
        created_at=timezone.now(),
        expires_at=expires_at,
    )
    return made, token


def issue_token(og: OrganizationGroup, label: str, expires_at: datetime | None = None) -> str:
    """`make_token`, for those who need no more than the token."""
    return make_token(og, label, expires_at)[1]


def authenticate(token: str) -> OrganizationGroup | None:
    """The organization group that a token names, or None.

    Unknown, expired, revoked and malformed tokens all cost the same one query and look the same.
    """
    found = ApiToken.objects.select_related("og").filter(token_hash=_hash(token)).first()
    if found is None or found.revoked_at is not None:
        return None
    now = timezone.now()
    if found.expires_at is not None and found.expires_at <= now:
        return None
    if found.last_used_at is None or now - found.last_used_at > _USED_EVERY:
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found.og


def rotate_token(old: ApiToken, overlap: timedelta) -> tuple[ApiToken, str]:
    """Make a token that takes the place of another, which is good for `overlap` longer at most.

    Returns the new one's row, and itself, the only time.

    Raises:
        ValueError: the other one is revoked or expired already: there is nothing to take over.
    """
    now = timezone.now()
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise ValueError("this token is no longer good")
    with transaction.atomic():
        made = make_token(old.og, old.label)
        last = now + overlap
        if old.expires_at is None or old.expires_at > last:
            ApiToken.objects.filter(pk=old.pk).update(expires_at=last)
    return made


def revoke(token: ApiToken) -> bool:
    """Revoke one token at once; False if it was revoked before."""
    return bool(_revoke(ApiToken.objects.filter(pk=token.pk)))


def revoke_token(og: OrganizationGroup, label: str) -> int:
    """Revoke every valid token of this label in the group itself; how many there were."""
    return _revoke(ApiToken.objects.filter(og=og, label=label))


def _revoke(tokens: QuerySet[ApiToken]) -> int:
    with transaction.atomic():
        valid = tokens.filter(revoked_at=None)
        for token_hash in list(valid.values_list("token_hash", flat=True)):
            revocations.note("api_token", hash=token_hash)
        return valid.update(revoked_at=timezone.now())
