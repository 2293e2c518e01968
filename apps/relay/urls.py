"""The relay's addresses, under `/nws/`: one for each platform."""

from __future__ import annotations

from django.urls import path

from apps.relay.views import notify

urlpatterns = [
    path(f"notify/{platform}", notify, {"platform": platform}) for platform in ("apns", "fcm")
]
