"""Addresses by role: what a process does not serve does not exist in it."""

from __future__ import annotations

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from apps.operations.ready import ready, relay_ready

_prefix = settings.ENS.url_prefix.strip("/")
_base = f"{_prefix}/" if _prefix else ""

urlpatterns: list[URLPattern | URLResolver] = []
if "device-api" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}api/ens/", include("apps.api.urls")))
if "notify" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}api/ens/", include("apps.announce.urls")))
if not settings.RELAY_ONLY:
    urlpatterns.append(path(f"{_base}api/ens/ready", ready))
if "metrics" in settings.ENS.roles:
    from apps.operations.metrics import metrics  # its tables are not in a relay of its own

    urlpatterns.append(path(f"{_base}metrics", metrics))
if "console" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}console/", include("apps.console.urls")))
    # Elsewhere these answer as Django does.
    handler403, handler404 = "apps.console.views.not_allowed", "apps.console.views.not_found"
    urlpatterns.append(path(f"{_base}console", RedirectView.as_view(pattern_name="console:index")))
if "admin-api" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}api/admin/v1/", include("apps.api.admin.urls")))
if "relay" in settings.ENS.roles:
    urlpatterns.append(path("nws/", include("apps.relay.urls")))
    urlpatterns.append(path("nws/ready", relay_ready))
