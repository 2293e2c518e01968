"""Small views of the console that are no pages of their own."""

from __future__ import annotations

from allauth.account import views as account
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import defaults
from django.views.decorators.http import require_POST

from apps.administrators.models import Administrator
from apps.console.chosen import administrator_of, choose, groups_of
from apps.console.middleware import is_console
from apps.console.site import refused, show, site


@require_POST
def switch(request: HttpRequest) -> HttpResponse:
    """Look at another organization group, and come back to the page one was on."""
    wanted = request.POST.get("og", "")
    found = next((group for group in groups_of(request) if str(group.pk) == wanted), None)
    if found is None:
        messages.error(request, "There is no such organization group.")
    else:
        choose(request, found)
    after = request.POST.get("next", "")
    here = url_has_allowed_host_and_scheme(after, {request.get_host()}, request.is_secure())
    return redirect(after if here else "console:index")


def password_change(request: HttpRequest) -> HttpResponse:
    """allauth's page, for those whose password is kept here."""
    if administrator_of(request).source != Administrator.Source.LOCAL:
        messages.info(request, "Your password is not kept here; change it where you sign in.")
        return redirect("console:index")
    answer: HttpResponse = account.password_change(request)
    return answer


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """What a form without its token gets: mostly a page that was open for too long."""
    return render(request, "console/stale.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: within the console's frame for those who are signed in to it."""
    if _in_frame(request):
        return show(request, "console/not_found.html", "Not found", status=404)
    return defaults.page_not_found(request, exception)


def not_allowed(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403, likewise."""
    return (
        refused(request) if _in_frame(request) else defaults.permission_denied(request, exception)
    )


def _in_frame(request: HttpRequest) -> bool:
    # What fails before the middleware has run has no user.
    return is_console(request) and hasattr(request, "user") and site.has_permission(request)
