"""Credentials that Exchange refused are remembered and never tried again.

A changed password would otherwise lock the user's account: five wrong tries are usual. Nor may
whoever holds an API token lock it with passwords of his own making: after some refusals an
account is left alone for a while, whichever mailboxes were claimed with it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

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
# Longer than a login may take (joining.DEADLINE_S).
TRIAL: Final = timedelta(seconds=30)

Standing = Literal["refused", "on_trial"]
REFUSED: Final = "refused"
ON_TRIAL: Final = "on_trial"


class AccountAtRisk(errors.ExchangeError):
    """So many logins of this account were refused lately that one more might lock it."""

    default_code = "too_many_attempts"
    transient = True


def remember(mailbox: Mailbox, credentials: Credentials) -> None:
    """Record a 401."""
    row = RefusedCredential.objects.filter(
        mailbox=mailbox, credential_hmac=_hmac(mailbox, credentials)
    )
    if row.filter(trial_until=None).exists():
        return
    if not row.update(trial_until=None, refused_at=clock.now()):
        _add(mailbox, credentials, trial_until=None)


def begin_trial(mailbox: Mailbox, credentials: Credentials) -> bool:
    """Ask to be the one who tries to log in with credentials that may be wrong.

    So that workers that meet a changed password at the same instant try it once. False: another
    one is at it; ask again shortly. True: end it by `end_trial`, or by `remember`.

    Raises:
        CredentialsRefused: these credentials were refused before.
        AccountAtRisk: too many others of the same account were, lately.
    """
    _check(mailbox, credentials)
    until = datetime.now(UTC) + TRIAL
    if _add(mailbox, credentials, trial_until=until):
        return True
    abandoned = RefusedCredential.objects.filter(
        mailbox=mailbox,
        credential_hmac=_hmac(mailbox, credentials),
        trial_until__lt=datetime.now(UTC),
    )
    return bool(abandoned.update(trial_until=until))


def end_trial(mailbox: Mailbox, credentials: Credentials) -> None:
    """They were not refused."""
    RefusedCredential.objects.filter(
        mailbox=mailbox, credential_hmac=_hmac(mailbox, credentials)
    ).exclude(trial_until=None).delete()


def _add(mailbox: Mailbox, credentials: Credentials, trial_until: datetime | None) -> bool:
    """False when there is a row already: remembered, or on trial."""
    try:
        with transaction.atomic():
            RefusedCredential.objects.create(
                mailbox=mailbox,
                credential_hmac=_hmac(mailbox, credentials),
                account_hmac=account(mailbox, credentials),
                trial_until=trial_until,
            )
    except IntegrityError:
        return False
    return True


def known(mailbox: Mailbox, credentials: Credentials) -> bool:
    """Whether Exchange has refused exactly these credentials within the last day."""
    return known_among([(mailbox, credentials)]).get((mailbox.pk, credentials)) == REFUSED


def known_among(
    pairs: Iterable[tuple[Mailbox, Credentials]],
) -> dict[tuple[int, Credentials], Standing]:
    """What is known against credentials, by the mailbox' key; the others are not there. One query.

    `refused`, or `on_trial` by another worker, which will know soon.
    """
    # Two phones of a user bring the same under the names that a gateway knows them by.
    by_hmac: dict[str, list[tuple[int, Credentials]]] = {}
    for mailbox, given in pairs:
        by_hmac.setdefault(_hmac(mailbox, given), []).append((mailbox.pk, given))
    if not by_hmac:
        return {}
    now = datetime.now(UTC)
    found = RefusedCredential.objects.filter(credential_hmac__in=list(by_hmac))
    return {
        asked: REFUSED if until is None else ON_TRIAL
        for hmac, until in found.values_list("credential_hmac", "trial_until")
        if until is None or until > now
        for asked in by_hmac[hmac]
    }


def _check(mailbox: Mailbox, credentials: Credentials) -> None:
    if known(mailbox, credentials):
        raise errors.CredentialsRefused
    if not credentials.has_password:
        # No directory locks an account for tokens and certificates.
        return
    lately = RefusedCredential.objects.filter(
        account_hmac=account(mailbox, credentials),
        refused_at__gt=clock.now() - REFUSALS_WITHIN,
    ).exclude(credential_hmac=_hmac(mailbox, credentials))
    # Those on trial count: each may be refused.
    if lately.count() >= REFUSALS_AT_MOST:
        raise AccountAtRisk


def account(mailbox: Mailbox, credentials: Credentials) -> str:
    """What stands for the account: `EXAMPLE\\anna`, `anna@example.com` and `anna` are one."""
    return lookup_hmac("account", f"{mailbox.mail_system_id}:{plain_name(credentials.account)}")


def plain_name(username: str) -> str:
    """A user name in its barest form: no domain, accents, widths, capitals, and what is not seen.

    Active Directory finds `anna` by `Änna`, too; each spelling that counted by itself would be four
    more wrong tries at the same account.
    """
    name = username.rpartition("\\")[2].partition("@")[0]
    parts = unicodedata.normalize("NFKD", name.casefold())
    seen = (one for one in parts if unicodedata.category(one) not in ("Mn", "Me", "Cf"))
    return "".join(seen).casefold().strip()


def _hmac(mailbox: Mailbox, credentials: Credentials) -> str:
    # A gateway's name for the device doesn't make a wrong password another one.
    bare = replace(credentials, identity=()) if credentials.identity else credentials
    return lookup_hmac("credential", f"{mailbox.pk}:".encode() + bare.to_bytes())
