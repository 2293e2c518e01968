"""The console as an AdminSite: its door, its own pages, its frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from unfold.sites import UnfoldAdminSite

from apps.administrators.scope import may_somewhere
from apps.console.appearance import switcher
from apps.console.chosen import user_of

View = Callable[..., HttpResponse]


@dataclass(frozen=True, slots=True)
class _Page:
    route: str
    name: str
    view: View


_pages: list[_Page] = []


def page(route: str, *, name: str, permission: str) -> Callable[[View], View]:
    """Register a function view as `console:<name>` at `<console>/<route>`.

    Only who holds `permission` somewhere gets to it (403 otherwise); whether they hold it in the
    group concerned, the view asks itself by scope.may.
    """

    def register(view: View) -> View:
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may_somewhere(user_of(request), permission):
                return refused(request)
            return view(request, *args, **kwargs)

        _pages.append(_Page(route, name, guarded))
        return view

    return register


def show(
    request: HttpRequest,
    template: str,
    title: str,
    context: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    """Render a page in the console's frame; its template extends `console/page.html`."""
    request.current_app = site.name
    return render(
        request,
        template,
        {**site.each_context(request), "title": title, **(context or {})},
        status=status,
    )


def refused(request: HttpRequest) -> HttpResponse:
    """The page for somebody whose roles don't allow what they tried; 403."""
    return show(request, "console/refused.html", "Not allowed", status=403)


def confirm(
    request: HttpRequest, title: str, question: str, back: str, button: str = "Yes, do it"
) -> HttpResponse:
    """Ask before an action: django-unfold's buttons are links, and a link must change nothing.

    The action's view shows this for a GET and acts on the POST to its own address.
    """
    context = {"words": question, "back": back, "button": button, "danger": True}
    return show(request, "console/form.html", title, context)


class ConsoleSite(UnfoldAdminSite):
    """Django's admin without its own sign-in and search."""

    index_title = "Dashboard"
    index_template = "console/dashboard.html"
    enable_nav_sidebar = True

    def extra_urls(self) -> list[URLPattern]:
        """The pages that are no model's (`page`)."""
        return [path(p.route, self.admin_view(p.view), name=p.name) for p in _pages]

    def get_urls(self) -> list[URLPattern]:
        """Without «view on site», which would tell whether a row exists."""
        urls = super().get_urls()
        return [url for url in urls if getattr(url, "name", "") != "view_on_site"]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The dashboard."""
        from apps.console import dashboard  # it needs the pages' addresses

        answer: HttpResponse = super().index(
            request, dashboard.context(request) | (extra_context or {})
        )
        return answer

    def search(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """None: the library's search knows models, not roles. Its templates name the address."""
        raise Http404

    def extra_context(self, context: dict[str, Any], request: HttpRequest) -> dict[str, Any]:
        """What the frame of every page shows besides: the switcher of organization groups."""
        if self.has_permission(request):
            context["switcher"] = switcher(request)
        return context

    @method_decorator(login_not_required)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Send visitors to sign in; tell those who have, but hold no role, that this is all."""
        if self.has_permission(request):
            return redirect("console:index")
        if request.user.is_authenticated:
            return show(request, "console/no_role.html", "No access", status=403)
        after = request.GET.get("next") or reverse("console:index")
        return HttpResponseRedirect(f"{reverse('account_login')}?{urlencode({'next': after})}")

    def logout(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """End the session, by POST only."""
        if request.method == "POST":
            auth.logout(request)
        return redirect("account_login")

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """allauth's page, behind which the lockout stands."""
        return redirect("account_change_password")


site: Final = ConsoleSite(name="console")
