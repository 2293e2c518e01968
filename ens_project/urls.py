"""Addresses by role: what a process does not serve does not exist in it."""

from __future__ import annotations

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path

_prefix = settings.ENS.url_prefix.strip("/")
_base = f"{_prefix}/" if _prefix else ""

urlpatterns: list[URLPattern | URLResolver] = []
if "device-api" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}api/ens/", include("apps.api.urls")))
if "notify" in settings.ENS.roles:
    urlpatterns.append(path(f"{_base}api/ens/", include("apps.announce.urls")))
if "relay" in settings.ENS.roles:
    urlpatterns.append(path("nws/", include("apps.relay.urls")))
