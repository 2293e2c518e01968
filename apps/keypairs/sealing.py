"""Sealing: credentials that neither the database nor the webhook URL opens alone.

Each subscription has a random AES-256 key of its own, kept in its row, wrapped by the vault.
It seals one message: the credentials, which then stand in the URL; or, when those are too long,
a second random key, which then stands in the URL and opens the credentials in the row. Either way
deleting the row shreds them, and only the row has to be wrapped anew for a new master key.

What stands in the URL is base64url of `kind (1 byte) | ciphertext and tag`. Kind and subscription
are authenticated with it (DESIGN.md, section 4, "The webhook URL").
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db.models import QuerySet
from django.utils import timezone

from apps.keypairs.models import SealedCredential
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

_TABLE = SealedCredential._meta.db_table
_PURPOSE = "sealing"
_KEY_BYTES = 32
_TAG_BYTES = 16
# Each key seals one message only, so that a nonce has nothing to tell apart.
_NONCE = bytes(12)
_CREDENTIALS_IN_URL, _KEY_IN_URL, _IN_ROW = b"\x01", b"\x02", b"\x03"
_MAX_CHARACTERS = 2082  # a whole webhook URL is not longer
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ROWS_A_QUERY = 500  # SQL Server takes 2,100 parameters


class UnsealFailed(Exception):
    """The credentials do not open: shredded, damaged, or not of this subscription."""


def seal(subscription_id: UUID, plaintext: bytes, room: int) -> str:
    """Seal the credentials of a new subscription; returns what the webhook URL has to carry.

    `room` is how many characters the URL has left for it. Stores the row in the caller's
    transaction. A subscription is sealed once: for new credentials there is a new subscription.

    Raises:
        IntegrityError: this subscription has sealed credentials already.
        ValueError: there is not even room for a key (66 characters).
        MasterKeyInvalid: there is no usable master key file.
    """
    key = os.urandom(_KEY_BYTES)
    ciphertext = b""
    kind, message = _CREDENTIALS_IN_URL, plaintext
    if _characters(message) > room:
        kind, message = _KEY_IN_URL, os.urandom(_KEY_BYTES)
        if _characters(message) > room:
            raise ValueError(f"{room} characters are too few for sealed credentials")
        ciphertext = _encrypt(message, _IN_ROW, subscription_id, plaintext)
    creds = kind + _encrypt(key, kind, subscription_id, message)
    SealedCredential.objects.create(
        subscription_id=subscription_id,
        wrapped_key=wrap(key, table=_TABLE, row=str(subscription_id), purpose=_PURPOSE),
        ciphertext=ciphertext,
        created_at=timezone.now(),
    )
    return urlsafe_b64encode(creds).rstrip(b"=").decode("ascii")


def unseal(subscription_id: UUID, creds: str) -> bytes:
    """Open the credentials of a subscription with what came back in its webhook URL.

    Raises:
        UnsealFailed: they don't open, for whatever reason.
        MasterKeyInvalid: there is no usable master key file.
    """
    try:
        return unseal_many({subscription_id: creds})[subscription_id]
    except KeyError:
        raise UnsealFailed from None


def unseal_many(sealed: Mapping[UUID, str]) -> dict[UUID, bytes]:
    """Open the credentials of many subscriptions; those that don't open are left out.

    One query for 500 of them.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    opened: dict[UUID, bytes] = {}
    for ids in _portions(sealed):
        rows = SealedCredential.objects.filter(pk__in=ids)
        for found, wrapped, ciphertext in rows.values_list(
            "subscription_id", "wrapped_key", "ciphertext"
        ):
            try:
                opened[found] = _open(found, sealed[found], bytes(wrapped), bytes(ciphertext))
            except (UnsealFailed, UnwrapFailed, InvalidTag, ValueError):
                continue
    return opened


def shred(subscription_ids: Iterable[UUID]) -> None:
    """Destroy our part of sealed credentials: what is in the URLs opens nothing any more."""
    for ids in _portions(subscription_ids):
        SealedCredential.objects.filter(pk__in=ids).delete()


def shred_all_but(in_use: QuerySet[Any, Any]) -> None:
    """Destroy our part of all sealed credentials but those of the subscriptions in a query.

    `in_use` selects subscription ids only. One statement.
    """
    SealedCredential.objects.exclude(pk__in=in_use).delete()


def _open(subscription_id: UUID, creds: str, wrapped: bytes, ciphertext: bytes) -> bytes:
    if len(creds) > _MAX_CHARACTERS or not _BASE64URL.fullmatch(creds):
        raise UnsealFailed
    sealed = urlsafe_b64decode(creds + "=" * (-len(creds) % 4))
    kind = sealed[:1]
    key = unwrap(wrapped, table=_TABLE, row=str(subscription_id), purpose=_PURPOSE)
    message = _decrypt(key, kind, subscription_id, sealed[1:])
    if kind == _CREDENTIALS_IN_URL:
        return message
    return _decrypt(message, _IN_ROW, subscription_id, ciphertext)


def _encrypt(key: bytes, kind: bytes, subscription_id: UUID, message: bytes) -> bytes:
    return AESGCM(key).encrypt(_NONCE, message, kind + subscription_id.bytes)


def _decrypt(key: bytes, kind: bytes, subscription_id: UUID, sealed: bytes) -> bytes:
    return AESGCM(key).decrypt(_NONCE, sealed, kind + subscription_id.bytes)


def _characters(message: bytes) -> int:
    """How long `message` is in the URL once sealed."""
    return -(-(1 + len(message) + _TAG_BYTES) * 4 // 3)


def _portions(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    every = list(ids)
    for start in range(0, len(every), _ROWS_A_QUERY):
        yield every[start : start + _ROWS_A_QUERY]
