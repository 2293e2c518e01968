"""Credentials that Exchange refused are remembered and never tried again.

A changed password would otherwise lock the user's account: five wrong tries are usual. Nor may
whoever holds an API token lock it with passwords of his own making: after some refusals an
account is left alone for a while, whichever mailboxes were claimed with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.db import IntegrityError, transaction

from apps import clock
from apps.devices.models import Mailbox
from apps.exchange import errors
from apps.exchange.interface import Credentials
from apps.subscriptions.models import RefusedCredential
from apps.vault.lookup import lookup_hmac

# Below the five wrong tries, within half an hour, after which directories lock an account.
REFUSALS_AT_MOST: Final = 4
REFUSALS_WITHIN: Final = timedelta(minutes=30)


class AccountAtRisk(errors.ExchangeError):
    """So many logins of this account were refused lately that one more might lock it."""

    default_code = "too_many_attempts"
    transient = True


def remember(mailbox: Mailbox, credentials: Credentials) -> None:
    """Record a 401."""
    try:
        with transaction.atomic():
            RefusedCredential.objects.create(
                mailbox=mailbox,
                credential_hmac=_hmac(mailbox, credentials),
                account_hmac=account(mailbox, credentials),
            )
    except IntegrityError:
        pass  # remembered already, by another worker


def known(mailbox: Mailbox, credentials: Credentials) -> bool:
    """Whether Exchange has refused exactly these credentials within the last day."""
    return bool(known_among([(mailbox, credentials)]))


def known_among(pairs: Iterable[tuple[Mailbox, Credentials]]) -> set[tuple[int, Credentials]]:
    """Those of the credentials, by the mailbox' key, that `known` is true of. One query."""
    by_hmac = {_hmac(mailbox, given): (mailbox.pk, given) for mailbox, given in pairs}
    if not by_hmac:
        return set()
    found = RefusedCredential.objects.filter(credential_hmac__in=list(by_hmac))
    return {by_hmac[refused] for refused in found.values_list("credential_hmac", flat=True)}


def check(mailbox: Mailbox, credentials: Credentials) -> None:
    """Refuse a login that must not be tried.

    Raises:
        CredentialsRefused: these credentials were refused before.
        AccountAtRisk: too many others of the same account were, lately.
    """
    if known(mailbox, credentials):
        raise errors.CredentialsRefused
    lately = RefusedCredential.objects.filter(
        account_hmac=account(mailbox, credentials),
        refused_at__gt=clock.now() - REFUSALS_WITHIN,
    )
    if lately.count() >= REFUSALS_AT_MOST:
        raise AccountAtRisk


def account(mailbox: Mailbox, credentials: Credentials) -> str:
    """What stands for the account: `EXAMPLE\\anna`, `anna@example.com` and `anna` are one."""
    name = credentials.username.rpartition("\\")[2].partition("@")[0].strip().lower()
    return lookup_hmac("account", f"{mailbox.mail_system_id}:{name}")


def _hmac(mailbox: Mailbox, credentials: Credentials) -> str:
    return lookup_hmac("credential", f"{mailbox.pk}:".encode() + credentials.to_bytes())
