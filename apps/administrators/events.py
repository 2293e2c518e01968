"""What sign-in does besides: the audit log, the lockout's count of wrong codes, session times."""

from __future__ import annotations

import time
from typing import Any, Final

from allauth.account.signals import password_changed
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import (
    authentication_failed,
    authenticator_added,
    authenticator_removed,
    authenticator_reset,
)
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.http import HttpRequest

from apps.administrators.models import Administrator
from apps.audit.service import record
from apps.client_address import client_address

SIGNED_IN_AT: Final = "signed_in_at"


def note(request: HttpRequest | None, user: Administrator, action: str, what: str = "") -> None:
    """Write into the audit log what an administrator did with their own account."""
    record(
        actor=user.username,
        action=action,
        target=user.username,
        og_path="",
        before=None,
        after={"what": what} if what else None,
        address=str(client_address(request)) if request else "",
    )


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, user: Administrator, **_: Any) -> None:
    request.session[SIGNED_IN_AT] = int(time.time())
    note(request, user, "session.sign_in")


@receiver(user_logged_out)
def _signed_out(request: HttpRequest, user: Administrator | None, **_: Any) -> None:
    if user is not None:
        note(request, user, "session.sign_out")


@receiver(authentication_failed)
def _wrong_code(request: HttpRequest, user: Administrator, **_: Any) -> None:
    # The lockout counts a wrong code like a wrong password, on all servers.
    user_login_failed.send(
        sender=Authenticator, credentials={"username": user.username}, request=request
    )


@receiver(password_changed)
def _password(request: HttpRequest, user: Administrator, **_: Any) -> None:
    note(request, user, "administrator.password")


@receiver(authenticator_added)
def _added(request: HttpRequest, user: Administrator, authenticator: Any, **_: Any) -> None:
    note(request, user, "second_factor.add", authenticator.type)


@receiver(authenticator_removed)
def _removed(request: HttpRequest, user: Administrator, authenticator: Any, **_: Any) -> None:
    note(request, user, "second_factor.remove", authenticator.type)


@receiver(authenticator_reset)
def _reset(request: HttpRequest, user: Administrator, authenticator: Any, **_: Any) -> None:
    note(request, user, "second_factor.reset", authenticator.type)


@receiver(pre_save, sender=SocialAccount)
def _no_claims(instance: SocialAccount, **_: Any) -> None:
    # The provider tells names and addresses; what we need of it is its `sub`, and whose that is:
    # what was written down when an administrator tied the two together (accounts.link).
    stored = SocialAccount.objects.filter(pk=instance.pk).values_list("extra_data", flat=True)
    known = stored.first() if instance.pk else instance.extra_data
    instance.extra_data = {"issuer": (known or {}).get("issuer", "")}
