"""The device API's addresses, with its description and the UI to read it, served offline."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from apps.api import views

urlpatterns = [
    path("alive", views.Alive.as_view()),
    path("publickey", views.PublicKey.as_view()),
    path("subscribe", views.Subscribe.as_view()),
    path("checkin", views.Checkin.as_view()),
    path("unsubscribe", views.Unsubscribe.as_view()),
    path("openapi", SpectacularAPIView.as_view(), name="openapi"),
    path("docs", SpectacularSwaggerView.as_view(url_name="openapi")),
]
