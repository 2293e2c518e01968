"""The webhook's address."""

from __future__ import annotations

from django.urls import path

from apps.announce.webhook import notify

urlpatterns = [path("notify", notify)]
