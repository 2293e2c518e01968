"""Django's middleware for the console's requests alone.

A process may serve the webhook as well, whose budget has no room for sessions and cookies.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.middleware import AuthenticationMiddleware, LoginRequiredMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.shortcuts import redirect
from django.utils.cache import add_never_cache_headers

from apps.administrators.events import SIGNED_IN_AT
from apps.administrators.models import Administrator
from apps.administrators.second_factor import is_missing
from apps.console.chosen import user_of

Answer = Callable[[HttpRequest], HttpResponseBase]
SEEN_AT: Final = "seen_at"
# What a page asks by itself, to show the latest, is no sign of a person.
POLL_HEADER: Final = "X-ENS-Poll"
_TOUCH_S: Final = 60


def is_console(request: HttpRequest) -> bool:
    """Whether a request is for the console (its static files are not)."""
    return bool(request.path_info.startswith(settings.CONSOLE_PATH))


class _ConsoleOnly:
    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if is_console(request):
            return super().__call__(request)  # type: ignore[misc]
        return self.get_response(request)


class ContentSecurity(_ConsoleOnly, CSPMiddleware):
    """Content-Security-Policy."""


class Sessions(_ConsoleOnly, SessionMiddleware):
    """Sessions."""


class Csrf(_ConsoleOnly, CsrfViewMiddleware):
    """CSRF tokens."""

    def process_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().process_view(request, *args, **kwargs) if is_console(request) else None


class Authentication(_ConsoleOnly, AuthenticationMiddleware):
    """`request.user`."""


class SignInRequired(_ConsoleOnly, LoginRequiredMiddleware):
    """Every page of the console but sign-in itself sends anonymous visitors to sign in."""

    def process_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().process_view(request, *args, **kwargs) if is_console(request) else None


class Messages(_ConsoleOnly, MessageMiddleware):
    """Messages to the person at the screen."""


def gate(get_response: Answer) -> Answer:
    """End sessions whose time is over, and keep pages out of caches."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        if not is_console(request):
            return get_response(request)
        if request.user.is_authenticated:
            _see_to_times(request)
        response = _enrolment(request) or get_response(request)
        add_never_cache_headers(response)
        # With no referrer at all browsers send «Origin: null», which the CSRF check refuses.
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    return answer


def _enrolment(request: HttpRequest) -> HttpResponseBase | None:
    """The way to set up an authenticator app, for who must have one and tries anything else."""
    if request.path_info.startswith(f"{settings.CONSOLE_PATH}account/"):
        return None
    user = user_of(request)
    if not isinstance(user, Administrator) or not is_missing(user):
        return None
    if request.method == "GET" and POLL_HEADER not in request.headers:
        messages.info(request, "Your role needs an authenticator app. Set one up to go on.")
    return redirect("mfa_activate_totp")


def _see_to_times(request: HttpRequest) -> None:
    session, now = request.session, int(time.time())
    longest = settings.ENS.console_session_hours * 3600
    # The idle time of the session's row is renewed once a minute, so it is checked here again.
    idle = settings.SESSION_COOKIE_AGE
    signed_in, seen = session.get(SIGNED_IN_AT, 0), session.get(SEEN_AT)
    if now - signed_in > longest or (seen is not None and now - seen > idle + _TOUCH_S):
        logout(request)
    elif POLL_HEADER not in request.headers and (seen is None or now - seen >= _TOUCH_S):
        session[SEEN_AT] = now
