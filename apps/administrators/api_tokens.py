"""Tokens of the admin API: made, checked, rotated, revoked. Only their hashes are kept.

A token may do what its scopes name, as far as its owner may at that moment, in its group and below:
an administrator who loses a role takes it from their tokens as well.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps import revocations
from apps.administrators.models import AdminApiToken, Administrator
from apps.administrators.roles import PERMISSIONS
from apps.administrators.scope import permitted_paths
from apps.tenants.groups import plain_name
from apps.tenants.models import OrganizationGroup

PREFIX: Final = "ensadm_"
# What a program never may, whoever owns its token: make itself or others more powerful.
NEVER: Final = frozenset({"administrators.manage"})
SCOPES: Final = tuple(name for name in PERMISSIONS if name not in NEVER)
# `last_used_at` is for people; a row needn't be written for every call.
_USED_EVERY: Final = timedelta(minutes=1)


class TokenRefused(Exception):
    """The token can't be made; the message is one line for an administrator."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls the admin API."""

    token: AdminApiToken

    @property
    def name(self) -> str:
        """For the audit log."""
        return f"{self.token.owner.username} by token {self.token.label}"

    def has(self, permission: str) -> bool:
        """Whether the token names this permission, whatever its owner may."""
        return permission in SCOPES and permission in self.token.scopes

    def paths(self, permission: str) -> tuple[str, ...] | None:
        """The topmost tree paths in which the caller may do this; None: everywhere."""
        if not self.has(permission):
            return ()
        owners = permitted_paths(self.token.owner, permission)
        if self.token.og is None:
            return None if owners is None else tuple(owners)
        own = self.token.og.path
        if owners is None or any(own.startswith(path) for path in owners):
            return (own,)
        return tuple(path for path in owners if path.startswith(own))


def issue(
    owner: Administrator,
    og: OrganizationGroup | None,
    label: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
) -> tuple[AdminApiToken, str]:
    """Make a token; returns its row and the token itself, the only time.

    Raises:
        TokenRefused: the label or a scope is not acceptable, or the time is over already.
    """
    try:
        label = plain_name(label)
    except ValueError as error:
        raise TokenRefused(str(error)) from None
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise TokenRefused(f"no such scope for a token: {unknown[0][:40]}")
    if not scopes:
        raise TokenRefused("a token needs at least one scope")
    if expires_at is not None and expires_at <= timezone.now():
        raise TokenRefused("this time is over already")
    token = PREFIX + secrets.token_urlsafe(32)
    row = AdminApiToken.objects.create(
        owner=owner,
        og=og,
        label=label,
        token_hash=_hash(token),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    return row, token


def rotate(row: AdminApiToken, overlap: timedelta) -> tuple[AdminApiToken, str]:
    """Make a token like this one, which stays good for `overlap` more.

    Raises:
        TokenRefused: it is revoked or has expired.
    """
    now = timezone.now()
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise TokenRefused("this token is not valid any more: make a new one")
    with transaction.atomic():
        # The new one lasts as long as the old one was meant to.
        lasts = now + (row.expires_at - row.created_at) if row.expires_at else None
        made = issue(row.owner, row.og, row.label, row.scopes, lasts)
        ends = now + overlap
        AdminApiToken.objects.filter(pk=row.pk).filter(
            Q(expires_at=None) | Q(expires_at__gt=ends)
        ).update(expires_at=ends)
    return made


def revoke(row: AdminApiToken) -> bool:
    """Revoke a token at once; False when it was revoked before."""
    rows = AdminApiToken.objects.filter(pk=row.pk, revoked_at=None)
    revoked = bool(rows.update(revoked_at=timezone.now()))
    if revoked:
        revocations.note("admin_token", hash=row.token_hash)
    return revoked


def authenticate(token: str) -> Caller | None:
    """Who calls with this token; None for one that is unknown, expired, revoked or ownerless."""
    found = (
        AdminApiToken.objects.select_related("owner", "og").filter(token_hash=_hash(token)).first()
    )
    now = timezone.now()
    if (
        found is None
        or found.revoked_at is not None
        or (found.expires_at is not None and found.expires_at <= now)
        or not found.owner.is_active
    ):
        return None
    if found.last_used_at is None or now - found.last_used_at > _USED_EVERY:
        AdminApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return Caller(found)


def _hash(token: str) -> str:
    # 256 random bits can't be guessed from their hash, so it needs neither salt nor stretching.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
