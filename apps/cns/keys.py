"""The deployment's secure channel keys in the database, wrapped, so that all servers roll as one.

As long as there is none, each server signs with the file that `ENS_CNS_KEY_FILE` names.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from apps.cns.channel import load_channel, make_channel
from apps.cns.models import SecureChannelKey
from apps.vault.wrapping import unwrap, wrap

_TABLE = SecureChannelKey._meta.db_table
_PURPOSE = "secure-channel-key"
Use = SecureChannelKey.Use


def make(label: str, use: SecureChannelKey.Use) -> tuple[SecureChannelKey, bytes]:
    """Make and list a key; returns the row, and the private key in PEM.

    Of one for EXPORTED the private half is not kept: it is in the returned bytes and nowhere else.
    """
    private, certificate = make_channel(label)
    thumbprint = load_channel(private + certificate).thumbprint
    sealed = None
    if use != Use.EXPORTED:
        sealed = wrap(private, table=_TABLE, row=thumbprint, purpose=_PURPOSE)
    row = SecureChannelKey.objects.create(
        thumbprint=thumbprint,
        label=label,
        certificate=certificate.decode("ascii"),
        sealed_key=sealed,
        use=use,
        created_at=timezone.now(),
    )
    return row, private


def current() -> SecureChannelKey | None:
    """The key that signs now; None where the file does. One query."""
    return SecureChannelKey.objects.filter(use=Use.CURRENT, revoked_at=None).first()


def pem(row: SecureChannelKey) -> bytes:
    """Private key and certificate, as `load_channel` reads them.

    Raises:
        ValueError: its private half is not here.
        UnwrapFailed: the row was altered, or the master key is another one.
    """
    if row.sealed_key is None:
        raise ValueError("the private half of this key is not kept")
    private = unwrap(bytes(row.sealed_key), table=_TABLE, row=row.thumbprint, purpose=_PURPOSE)
    return private + row.certificate.encode("ascii")


def put_into_use(row: SecureChannelKey) -> None:
    """Let a key sign from now on; the one before it becomes PREVIOUS."""
    with transaction.atomic():
        SecureChannelKey.objects.filter(use=Use.CURRENT).update(use=Use.PREVIOUS)
        SecureChannelKey.objects.filter(pk=row.pk).update(use=Use.CURRENT, used_from=timezone.now())
