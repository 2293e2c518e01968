"""The key pairs of the OGs: what devices encrypt to, and the opening of what they sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Count
from django.utils import timezone

from apps.keypairs import jwe, rsa, signing
from apps.keypairs.jwe import JweRefused
from apps.keypairs.models import KeyPair, OpenedJwe, SigningKey
from apps.keypairs.policy import KeyPairSettings
from apps.tenants.inherited import settings_for
from apps.tenants.models import OrganizationGroup
from apps.vault.lookup import lookup_hmac

__all__ = ["JweRefused", "NoKeyReady", "PublicKey", "current_public_key", "open_jwe", "rotate"]

IAT_WINDOW = timedelta(minutes=10)
"""How far the `iat` of a JWE may be from our time, before and after."""
_CLOCK_SLACK = timedelta(minutes=10)
_PAIRS_AHEAD = 2  # the current one and the next


class NoKeyReady(Exception):
    """The OG has no key pair yet; the next `rotate()` makes it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a device encrypts to until `expires_at`: a public JWK (RFC 7517) and its id."""

    kid: str
    jwk: dict[str, str]
    expires_at: datetime


def current_public_key(og: OrganizationGroup) -> PublicKey:
    """The public key that the OG's devices are to use now.

    Raises:
        NoKeyReady: there is none yet.
    """
    pairs = KeyPair.objects.filter(og=og, current_until__gt=timezone.now())
    found = pairs.order_by("number").values_list("kid", "public_jwk", "expires_at").first()
    if found is None:
        raise NoKeyReady
    return PublicKey(*found)


def open_jwe(og: OrganizationGroup, compact: str) -> dict[str, Any]:
    """Open a JWE that a device of this OG sent, for the first and only time.

    Must be called inside the caller's `transaction.atomic()`: that the JWE was opened is written
    in the same transaction as what it brought, so neither is ever kept without the other. A
    caller that rolls back leaves the JWE unopened.

    Raises:
        JweRefused: with its code.
        UnwrapFailed, MasterKeyInvalid: our own key can't be had.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("open_jwe needs the caller's transaction")
    now = timezone.now()
    pair = _pair(og, jwe.key_id(compact), now)
    claims = jwe.decrypt(compact, rsa.load(pair))
    if abs(int(now.timestamp()) - claims.iat) > IAT_WINDOW.total_seconds():
        raise JweRefused("jwe_stale")
    _open_once(pair, claims)
    return claims.content


def rotate() -> None:
    """Destroy spent key pairs and see that each OG has a current and a next one, and signing keys.

    To be called every few minutes. Two callers at once do no harm.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    now = timezone.now()
    OpenedJwe.objects.filter(expires_at__lte=now).delete()
    KeyPair.objects.filter(expires_at__lte=now).delete()
    live = KeyPair.objects.filter(current_until__gt=now)
    counted = live.values_list("og").annotate(pairs=Count("pk"))
    ready = {og_id for og_id, pairs in counted if pairs >= _PAIRS_AHEAD}
    for og in OrganizationGroup.objects.all():
        if og.pk not in ready:
            _make_ahead(og, now)
    signing.rotate()


def replace_all() -> int:
    """Destroy every key pair and signing key and make new ones; returns how many went.

    Phones fetch the new ones when they subscribe or check in; what they sent under the old ones is
    refused.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    gone = KeyPair.objects.count() + SigningKey.objects.count()
    KeyPair.objects.all().delete()
    SigningKey.objects.all().delete()
    rotate()
    return gone


def _pair(og: OrganizationGroup, kid: str, now: datetime) -> KeyPair:
    pair = KeyPair.objects.filter(og=og, kid=kid).first()
    if pair is None or pair.kid != kid:
        raise JweRefused("jwe_unknown_key")
    if pair.expires_at <= now:
        raise JweRefused("jwe_expired_key")
    return pair


def _open_once(pair: KeyPair, claims: jwe.Claims) -> None:
    """Remember the JWE by its id (its text has many spellings) for as long as its `iat` holds."""
    stale_at = datetime.fromtimestamp(claims.iat, tz=pair.expires_at.tzinfo) + IAT_WINDOW
    try:
        with transaction.atomic():
            OpenedJwe.objects.create(
                key_pair=pair,
                jti_hash=lookup_hmac("keypairs.jti", claims.jti),
                expires_at=stale_at + _CLOCK_SLACK,
            )
    except IntegrityError:
        raise JweRefused("jwe_replayed") from None


def _make_ahead(og: OrganizationGroup, now: datetime) -> None:
    policy = settings_for(og, KeyPairSettings)
    while True:
        # Number and end come from one reading, so that of two processes only one can write.
        pairs = KeyPair.objects.filter(og=og).order_by("number")
        known = list(pairs.values_list("number", "current_until"))
        live = [until for _number, until in known if until > now]
        if len(live) >= _PAIRS_AHEAD:
            return
        ends = (live[-1] if live else now) + timedelta(hours=policy.hours_current)
        pair = KeyPair(
            og=og,
            number=known[-1][0] + 1 if known else 1,
            created_at=now,
            current_until=ends,
            expires_at=ends + timedelta(hours=policy.hours_accepted_after),
            **rsa.generate(policy.bits),
        )
        try:
            with transaction.atomic():
                pair.save(force_insert=True)
        except IntegrityError:
            continue  # another process made this one meanwhile
