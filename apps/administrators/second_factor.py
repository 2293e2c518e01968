"""Who must use an authenticator app; and that a code of one opens one door, on whichever server.

allauth remembers used codes in a cache, which here is each process's own, and for half a minute
only, while a code is taken for a minute and a half.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.administrators.models import Administrator, UsedCode
from apps.vault.lookup import lookup_hmac

# Longer than any code is taken: three periods of 30 seconds.
_REMEMBERED: Final = timedelta(seconds=120)


def is_required(person: Administrator) -> bool:
    """Whether somebody must use an authenticator app, by ENS_REQUIRE_SECOND_FACTOR."""
    wanted = set(settings.ENS.require_second_factor)
    if not wanted:
        return False
    return "all" in wanted or any(role in wanted for role, _ in person.standing.roles)


def is_missing(person: Administrator) -> bool:
    """Whether they must, and have none."""
    if not is_required(person):
        return False
    apps = Authenticator.objects.filter(user=person, type=Authenticator.Type.TOTP)
    return not apps.exists()


def use_once(person: Administrator, code: str) -> bool:
    """Note that a code is used now; False when it was already."""
    hidden = lookup_hmac("second factor code", f"{person.pk}:{''.join(code.split())}")
    forget(hidden)
    try:
        with transaction.atomic():
            UsedCode.objects.create(code_hmac=hidden)
    except IntegrityError:
        return False
    return True


def forget(hidden: str | None = None) -> None:
    """Delete what is old enough, of one code or of all."""
    rows = UsedCode.objects.filter(used_at__lt=timezone.now() - _REMEMBERED)
    (rows if hidden is None else rows.filter(code_hmac=hidden)).delete()
