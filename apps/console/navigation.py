"""The sidebar: every page of the console, in the order in which an administrator needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from apps.administrators.models import Administrator
from apps.administrators.scope import may_somewhere
from apps.console.chosen import user_of


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the sidebar: its icon (https://fonts.google.com/icons), its page, who sees it."""

    title: str
    icon: str
    url_name: str
    permission: str = "console.read"


# A page that is not there (yet, or in this installation) has no line.
SECTIONS: Final[tuple[tuple[str, tuple[Item, ...]], ...]] = (
    (
        "",
        (
            Item("Dashboard", "dashboard", "console:index"),
            Item("Devices", "smartphone", "console:devices_device_changelist"),
            Item("Subscriptions", "inbox", "console:subscriptions_subscription_changelist"),
        ),
    ),
    (
        "Set-up",
        (
            Item(
                "Organization groups",
                "account_tree",
                "console:tenants_organizationgroup_changelist",
            ),
            Item("Settings", "tune", "console:settings"),
            Item("Mail systems", "dns", "console:tenants_mailsystem_changelist"),
            Item("Site URLs", "link", "console:site_urls"),
            Item("API tokens", "key", "console:tenants_apitoken_changelist"),
            Item("App configuration", "app_registration", "console:app_configuration"),
            Item("Download configuration", "download", "console:download_configuration"),
        ),
    ),
    (
        "Security",
        (
            Item("SSL pinning", "push_pin", "console:ssl_pinning", "system.change"),
            Item(
                "Secure Channel Certificate",
                "verified_user",
                "console:secure_channel",
                "system.change",
            ),
            Item("CNS proxy", "swap_horiz", "console:cns_proxy", "system.change"),
            Item("Push apps", "notifications_active", "console:push_apps", "system.change"),
        ),
    ),
    (
        "System",
        (
            Item("Diagnostics", "troubleshoot", "console:diagnostics", "diagnostics.run"),
            Item("A person's data", "person_search", "console:persons", "devices.export"),
            Item("Audit log", "history", "console:audit_auditentry_changelist", "audit.read"),
            Item(
                "Administrators",
                "group",
                "console:administrators_administrator_changelist",
                "administrators.manage",
            ),
            Item("Admin API tokens", "api", "console:administrators_adminapitoken_changelist"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar as django-unfold takes it, with what this visitor may see."""
    user = user_of(request)
    found = []
    for title, items in SECTIONS:
        lines = [
            {"title": item.title, "icon": item.icon, "link": link}
            for item in items
            if may_somewhere(user, item.permission) and (link := _link(item.url_name))
        ]
        if lines:
            found.append({"title": title, "items": lines, "separator": bool(title)})
    return found


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """The lines of the menu below the visitor's name."""
    links = [{"title": "Two-factor authentication", "link": reverse("mfa_index")}]
    if getattr(request.user, "source", "") == Administrator.Source.LOCAL:
        links.append({"title": "Change password", "link": reverse("account_change_password")})
    return links


def _link(url_name: str) -> str | None:
    try:
        return reverse(url_name)
    except NoReverseMatch:
        return None
