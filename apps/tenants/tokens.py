"""API tokens: they say which organization group an app belongs to, and authenticate nobody."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from django.utils import timezone

from apps.tenants.models import ApiToken, OrganizationGroup

PREFIX = "ens_"


def _hash(token: str) -> str:
    # 256 random bits can't be guessed from their hash, so it needs neither salt nor stretching.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def issue_token(og: OrganizationGroup, label: str, expires_at: datetime | None = None) -> str:
    """Make a token (`ens_` and 256 random bits in base64url) and return it, the only time."""
    token = PREFIX + secrets.token_urlsafe(32)
    ApiToken.objects.create(
        og=og,
        token_hash=_hash(token),
        label=label,
        created_at=timezone.now(),
        expires_at=expires_at,
    )
    return token


def authenticate(token: str) -> OrganizationGroup | None:
    """The organization group that a token names, or None.

    Unknown, expired, revoked and malformed tokens all cost the same one query and look the same.
    """
    found = ApiToken.objects.select_related("og").filter(token_hash=_hash(token)).first()
    if found is None or found.revoked_at is not None:
        return None
    if found.expires_at is not None and found.expires_at <= timezone.now():
        return None
    return found.og


def revoke_token(og: OrganizationGroup, label: str) -> int:
    """Revoke every valid token of this label in the group itself; how many there were."""
    return ApiToken.objects.filter(og=og, label=label, revoked_at=None).update(
        revoked_at=timezone.now()
    )
