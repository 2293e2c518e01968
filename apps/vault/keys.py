"""The vault's keys: made when the database is migrated, then only ever read.

Not on first use: that may be inside a transaction which is rolled back, and the process would go
on with a key that nobody else has.
"""

from __future__ import annotations

import secrets

from django.core.management import CommandError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.vault.master import KEY_BYTES, MasterKeyInvalid
from apps.vault.models import VaultKey
from apps.vault.wrapping import unwrap, wrap

_TABLE = VaultKey._meta.db_table
_FIRST = 1


class VaultKeyMissing(Exception):
    """The database has no key of this kind: it was never migrated with its master key."""


def load(kind: VaultKey.Kind) -> dict[int, bytes]:
    """All keys of a kind by number, 32 bytes each. One query.

    Raises:
        VaultKeyMissing: there is none.
        UnwrapFailed: one doesn't open under the master key file.
        MasterKeyInvalid: there is no usable master key file.
    """
    rows = VaultKey.objects.filter(kind=kind).values_list("number", "wrapped")
    keys = {
        number: unwrap(wrapped, table=_TABLE, row=_row(kind, number), purpose=kind.value)
        for number, wrapped in rows
    }
    if not keys:
        raise VaultKeyMissing(f"no {kind.value} key in the database: run `manage.py migrate`")
    return keys


def replace_url_mac() -> int:
    """Make a new URL MAC key and forget all others: no URL made before is ours any more.

    Returns how many were forgotten. Other processes must be started again to forget them.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    kind = VaultKey.Kind.URL_MAC
    with transaction.atomic():
        numbers = list(VaultKey.objects.filter(kind=kind).values_list("number", flat=True))
        number = max(numbers, default=0) + 1
        secret = secrets.token_bytes(KEY_BYTES)
        VaultKey.objects.create(
            kind=kind,
            number=number,
            wrapped=wrap(secret, table=_TABLE, row=_row(kind, number), purpose=kind.value),
            created_at=timezone.now(),
        )
        VaultKey.objects.filter(kind=kind, number__lt=number).delete()
    return len(numbers)


def make_missing(using: str) -> None:
    """Make the first key of each kind that has none, after a migration.

    Two migrations at the same instant agree: the unique constraint lets one of them win.

    Raises:
        CommandError: there is no usable master key file; `migrate` says so in one line.
    """
    for kind in VaultKey.Kind:
        if VaultKey.objects.using(using).filter(kind=kind).exists():
            continue
        try:
            wrapped = wrap(
                secrets.token_bytes(KEY_BYTES),
                table=_TABLE,
                row=_row(kind, _FIRST),
                purpose=kind.value,
            )
        except MasterKeyInvalid as error:
            raise CommandError(str(error)) from None
        try:
            with transaction.atomic(using=using):
                VaultKey.objects.using(using).create(
                    kind=kind, number=_FIRST, wrapped=wrapped, created_at=timezone.now()
                )
        except IntegrityError:
            continue


def _row(kind: VaultKey.Kind, number: int) -> str:
    return f"{kind.value}:{number}"
