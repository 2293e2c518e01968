"""The admin API's addresses."""

from __future__ import annotations

from django.urls import path

from apps.api.admin import devices, groups, openapi, state

urlpatterns = [
    path("openapi", openapi.Description.as_view(), name="admin-openapi"),
    path("me", groups.Me.as_view()),
    path("groups", groups.Groups.as_view()),
    path("groups/<uuid:guid>", groups.Group.as_view()),
    path("groups/<uuid:guid>/settings", groups.Settings.as_view()),
    path("groups/<uuid:guid>/settings/<slug:section>", groups.Section.as_view()),
    path("groups/<uuid:guid>/tokens", groups.Tokens.as_view()),
    path("groups/<uuid:guid>/mail-systems", groups.MailSystems.as_view()),
    path("tokens/<int:pk>/rotate", groups.TokenRotation.as_view()),
    path("tokens/<int:pk>/revoke", groups.TokenRevocation.as_view()),
    path("devices", devices.Devices.as_view()),
    path("devices/search", devices.DeviceSearch.as_view()),
    path("devices/<uuid:pk>", devices.Device.as_view()),
    path("devices/<uuid:pk>/block", devices.DeviceBlock.as_view()),
    path("devices/<uuid:pk>/test-notification", devices.TestNotification.as_view()),
    path("devices/<uuid:pk>/request-checkin", devices.RequestCheckin.as_view()),
    path("blocks", devices.Blocks.as_view()),
    path("persons/export", devices.PersonExport.as_view()),
    path("persons/forget", devices.PersonForget.as_view()),
    path("subscriptions", state.Subscriptions.as_view()),
    path("health", state.Health.as_view()),
    path("audit", state.Audit.as_view()),
]
