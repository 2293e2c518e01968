"""The relay's addresses, under `/nws/`; FCM will be `notify/fcm`."""

from __future__ import annotations

from django.urls import path

from apps.relay.views import notify_apns

urlpatterns = [path("notify/apns", notify_apns)]
