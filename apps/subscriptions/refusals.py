"""Credentials that Exchange refused are remembered and never tried again.

A changed password would otherwise lock the user's account: five wrong tries are usual.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction

from apps.devices.models import Mailbox
from apps.exchange.interface import Credentials
from apps.subscriptions.models import RefusedCredential
from apps.vault.lookup import lookup_hmac


def remember(mailbox: Mailbox, credentials: Credentials) -> None:
    """Record a 401."""
    try:
        with transaction.atomic():
            RefusedCredential.objects.create(
                mailbox=mailbox, credential_hmac=_hmac(mailbox, credentials)
            )
    except IntegrityError:
        pass  # remembered already, by another worker


def known(mailbox: Mailbox, credentials: Credentials) -> bool:
    """Whether Exchange has refused exactly these credentials within the last day."""
    return RefusedCredential.objects.filter(
        mailbox=mailbox, credential_hmac=_hmac(mailbox, credentials)
    ).exists()


def _hmac(mailbox: Mailbox, credentials: Credentials) -> str:
    return lookup_hmac("credential", f"{mailbox.pk}:".encode() + credentials.to_bytes())
