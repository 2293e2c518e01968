"""Step-up: what is dangerous asks for the password or a code again, unless one was just given.

Unlike allauth's own decorator this keeps nothing of a form that was sent too late: it may hold a
password, and a session is no place for it. The form is shown, and filled in, again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from django.contrib import auth, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.console.chosen import administrator_of

View = Callable[..., HttpResponse]


def stepped_up(request: HttpRequest) -> bool:
    """Whether the visitor has shown a password or a code in the last five minutes."""
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    records = get_authentication_records(request, administrator_of(request))
    return any(record["at"] > since for record in records)


def ask(request: HttpRequest) -> HttpResponse:
    """Send the visitor to prove who they are, and back to this page."""
    if request.method == "POST":
        messages.info(request, "To be safe, confirm that it is you; then send the form once more.")
    methods = get_adapter(request).get_reauthentication_methods(administrator_of(request))
    if methods:
        door = methods[0]["url"]
    else:  # signed in elsewhere: the way back is that way
        auth.logout(request)
        door = reverse("account_login")
    return HttpResponseRedirect(f"{door}?{urlencode({'next': request.get_full_path()})}")


def step_up_required(view: View) -> View:
    """Decorate a view (`request` first) that may be seen only after a step-up."""

    @wraps(view)
    def stepped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs) if stepped_up(request) else ask(request)

    return stepped


def step_up_to_change(view: View) -> View:
    """The same for a view that everybody permitted may read: only what is sent needs a step-up."""

    @wraps(view)
    def stepped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        changes = request.method not in ("GET", "HEAD")
        return (
            ask(request) if changes and not stepped_up(request) else view(request, *args, **kwargs)
        )

    return stepped
