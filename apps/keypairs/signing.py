"""The OGs' signing keys: with them a phone tells our announcements from anybody else's.

A key signs until its `current_until`; the next one is made, and told to the phones, a whole life
earlier, and the last one stays known for a while. So phones that check in know whichever is in use.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from django.db import IntegrityError, transaction
from django.db.models import Count
from django.utils import timezone
from joserfc import jws
from joserfc.jwk import ECKey

from apps.keypairs.models import SigningKey
from apps.keypairs.policy import KeyPairSettings
from apps.tenants.inherited import settings_for
from apps.tenants.models import OrganizationGroup
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

ALGORITHM: Final = "ES256"
_TABLE: Final = SigningKey._meta.db_table
_PURPOSE: Final = "private"
_KEYS_AHEAD: Final = 2  # the current one and the next
# A push waits a day at most for a phone that is off; a phone that was off may wait with its check.
_KNOWN_AFTER: Final = timedelta(days=7)
_LOADED_AT_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Signer:
    """A loaded signing key."""

    kid: str
    _key: ECKey = field(repr=False)

    def sign(self, payload: bytes) -> str:
        """A compact JWS (RFC 7515) over the payload: ES256, this key's `kid`. Takes 50 µs."""
        header = {"alg": ALGORITHM, "kid": self.kid}
        return jws.serialize_compact(header, payload, self._key, algorithms=[ALGORITHM])


def current(og: OrganizationGroup) -> Signer | None:
    """What signs the OG's announcements now; None before the first `rotate` or a damaged key.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    rows = SigningKey.objects.filter(og=og, current_until__gt=timezone.now()).order_by("number")
    row = rows.first()
    if row is None:
        return None
    try:
        return _loaded(row.kid, bytes(row.wrapped_private))
    except UnwrapFailed:
        return None


def public_keys(og: OrganizationGroup) -> dict[str, Any]:
    """What a phone needs to check announcements, as a JWK Set (RFC 7517): last, current, next."""
    rows = SigningKey.objects.filter(og=og, expires_at__gt=timezone.now()).order_by("number")
    return {"keys": list(rows.values_list("public_jwk", flat=True))}


def rotate() -> None:
    """Forget spent keys and see that each OG has a current and a next one; idempotent.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    now = timezone.now()
    SigningKey.objects.filter(expires_at__lte=now).delete()
    live = SigningKey.objects.filter(current_until__gt=now)
    counted = live.values_list("og").annotate(keys=Count("pk"))
    ready = {og_id for og_id, keys in counted if keys >= _KEYS_AHEAD}
    for og in OrganizationGroup.objects.all():
        if og.pk not in ready:
            _make_ahead(og, now)


def _make_ahead(og: OrganizationGroup, now: datetime) -> None:
    known = list(
        SigningKey.objects.filter(og=og).order_by("number").values_list("number", "current_until")
    )
    live = [until for _number, until in known if until > now]
    number = known[-1][0] if known else 0
    starts = live[-1] if live else now
    days = settings_for(og, KeyPairSettings).signing_days
    for _ in range(len(live), _KEYS_AHEAD):
        number, ends = number + 1, starts + timedelta(days=days)
        try:
            with transaction.atomic():
                _make(og, number, now, ends)
        except IntegrityError:
            return  # another process is at it
        starts = ends


def _make(og: OrganizationGroup, number: int, now: datetime, ends: datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    # Lower-case hex: some databases compare text without regard to case.
    kid = secrets.token_hex(16)
    blob = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = ECKey.import_key(private.public_key()).as_dict(kid=kid, alg=ALGORITHM, use="sig")
    SigningKey.objects.create(
        og=og,
        number=number,
        kid=kid,
        public_jwk=public,
        wrapped_private=wrap(blob, table=_TABLE, row=kid, purpose=_PURPOSE),
        created_at=now,
        current_until=ends,
        expires_at=ends + _KNOWN_AFTER,
    )


@lru_cache(maxsize=_LOADED_AT_MOST)
def _loaded(kid: str, wrapped: bytes) -> Signer:
    """Loading costs as much as signing, and every announcement is signed."""
    blob = unwrap(wrapped, table=_TABLE, row=kid, purpose=_PURPOSE)
    private = load_der_private_key(blob, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise UnwrapFailed("not an EC key")
    public = ECKey.import_key(private.public_key()).as_dict()
    # With the public JWK as its face, the library never exports the private number to make one.
    return Signer(kid, ECKey(private, public))
