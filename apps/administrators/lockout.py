"""What django-axes asks us: how long a lock lasts, whom it holds, what a locked visitor reads.

Names are stored as HMACs: people type passwords into the wrong field. Locks are kept in the
database, so they hold on all servers. A name that nobody has is locked just the same: whether it
exists can't be told.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from apps.administrators.models import normal_username
from apps.client_address import client_address
from apps.vault.lookup import lookup_hmac


def cool_off(request: HttpRequest | None = None) -> timedelta:
    """How long a name stays locked after its last failure that counted."""
    return timedelta(minutes=settings.ENS.console_locked_minutes)


def hidden_name(request: HttpRequest | None, credentials: dict[str, Any] | None) -> str:
    """The HMAC of the name that is being tried; of the empty name where none was given."""
    found = (credentials or {}).get("username") or (credentials or {}).get("login")
    if not found and request is not None:
        found = request.POST.get("login", "")
    return lookup_hmac("administrator", normal_username(str(found or ""))[:150])


def address(request: HttpRequest) -> str | None:
    """The caller's address for the record; None where there is none that is one."""
    found = client_address(request)
    return None if isinstance(found, str) else str(found)


def is_locked(request: HttpRequest, username: str) -> bool:
    """Whether this name may not be tried now."""
    return not AxesProxyHandler.is_allowed(request, {"username": username})


def locked_out(
    request: HttpRequest, response: HttpResponse | None = None, credentials: Any = None
) -> HttpResponse:
    """The page that a locked visitor sees: the same for every name."""
    minutes = settings.ENS.console_locked_minutes
    return render(request, "account/locked_out.html", {"minutes": minutes}, status=429)


def unlock(username: str) -> None:
    """Lift the lock of a name, and forget its failures."""
    AccessAttempt.objects.filter(username=hidden_name(None, {"username": username})).delete()


def forget() -> None:
    """Delete failures that no longer count."""
    AccessAttempt.objects.filter(attempt_time__lt=timezone.now() - 2 * cool_off()).delete()
