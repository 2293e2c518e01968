"""What the pages need around their content: styles, the switcher, the frame."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static

from apps.console.chosen import chosen_og, groups_of

_ALLAUTH: Final = ("account_", "mfa_", "openid_connect_", "socialaccount_")


def stylesheet(request: HttpRequest) -> str:
    """The address of our own styles."""
    return static("console/console.css")


def script(request: HttpRequest) -> str:
    """The address of what makes the library's pages easier to hear."""
    return static("console/accessible.js")


def icon(request: HttpRequest) -> str:
    """The address of the icon that browsers show beside the title."""
    return static("console/icon.svg")


def switcher(request: HttpRequest) -> dict[str, Any]:
    """What the header's switcher shows: the groups with their indentation, and the chosen one."""
    groups = groups_of(request)
    top = min((group.depth for group in groups), default=1)
    return {
        "chosen": chosen_og(request),
        "groups": [{"pk": g.pk, "name": g.name, "indent": g.depth - top} for g in groups],
    }


def frame(request: HttpRequest) -> dict[str, Any]:
    """A context processor: allauth's pages stand in the console's frame, too."""
    match = request.resolver_match
    if match is None or not (match.url_name or "").startswith(_ALLAUTH):
        return {}
    from apps.console.site import site

    providers = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]
    return {
        **site.each_context(request),
        "title": "Your account",
        "openid_providers": [
            {"provider_id": one["provider_id"], "name": one["name"]} for one in providers
        ],
    }
