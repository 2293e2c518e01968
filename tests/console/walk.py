"""Every address of the console, found by itself, with objects for those that need one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from django.contrib.contenttypes.models import ContentType
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from apps.administrators.api_tokens import issue
from apps.administrators.models import AdminApiToken, Administrator
from apps.audit.models import AuditEntry
from apps.audit.service import record
from apps.cns import keys
from apps.cns.models import Pin, SecureChannelKey
from apps.devices.models import Device
from apps.relay.models import PushApp
from apps.subscriptions.models import Subscription
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import ApiToken, MailSystem, OrganizationGroup
from apps.tenants.tokens import issue_token
from tests.console.fleet import make_device
from tests.console.people import BASE

# An object of a group, for pages about one: give yours by its model's `app_model`.
OBJECTS: Final[dict[str, Callable[[OrganizationGroup], Any]]] = {
    "tenants_organizationgroup": lambda og: og,
    "tenants_mailsystem": lambda og: _mail_system(og),
    "tenants_apitoken": lambda og: _token(og),
    "administrators_administrator": lambda og: _administrator(og),
    "administrators_adminapitoken": lambda og: _admin_token(og),
    "devices_device": lambda og: _device(og),
    "subscriptions_subscription": lambda og: _subscription(og),
    "audit_auditentry": lambda og: _entry(og),
}
# A value for each other part of an address.
PARTS: Final[dict[str, Callable[[OrganizationGroup], str]]] = {
    "section": lambda og: "keypairs",
    "app_label": lambda og: "tenants",
    "content_type_id": lambda og: str(ContentType.objects.get_for_model(type(og)).pk),
    "url": lambda og: "no-such-page",
    "app_id": lambda og: str(_push_app().pk),
    "pin_id": lambda og: str(_pin().pk),
    "thumbprint": lambda og: _key().thumbprint,
    "provider_id": lambda og: "company",
}


def _pin() -> Pin:
    now = timezone.now()
    return Pin.objects.get_or_create(
        host="cns.example.com",
        spki="A" * 43 + "=",
        defaults={"subject": "CN=cns", "expires_at": now, "created_at": now},
    )[0]


def _push_app() -> PushApp:
    return PushApp.objects.get_or_create(
        platform="apns", app="com.example.walk", defaults={"sealed_key": b"", "provider": "apns"}
    )[0]


def _admin_token(og: OrganizationGroup) -> AdminApiToken:
    found = AdminApiToken.objects.filter(og=og).first()
    return found or issue(_administrator(og), og, f"{og.name} UEM", ["console.read"])[0]


def _key() -> SecureChannelKey:
    found = SecureChannelKey.objects.first()
    return found or keys.make("Walk", SecureChannelKey.Use.NEXT)[0]


def _mail_system(og: OrganizationGroup) -> MailSystem:
    found = MailSystem.objects.filter(og=og).first()
    return found or add_mail_system(og, f"{og.name} Exchange", [f"{og.name.split()[0]}.example"])


def _token(og: OrganizationGroup) -> ApiToken:
    if not og.api_tokens.exists():
        issue_token(og, f"{og.name} phones")
    return og.api_tokens.get()


def _device(og: OrganizationGroup) -> Device:
    found = Device.objects.filter(og=og).first()
    return found or make_device(og, model_name=f"{og.name} phone")


def _subscription(og: OrganizationGroup) -> Subscription:
    device = _device(og)
    return Subscription.objects.get_or_create(
        owner=device,
        defaults={"mailbox": device.mailbox, "ews_url": f"https://{og.name.split()[0]}.example"},
    )[0]


def _entry(og: OrganizationGroup) -> AuditEntry:
    found = AuditEntry.objects.filter(action="walk.made", og_path=og.path).first()
    if found is None:
        record(
            actor=og.name, action="walk.made", target=og.name, og_path=og.path, before=None,
            after={"group": og.name},
        )  # fmt: skip
    return found or AuditEntry.objects.get(action="walk.made", og_path=og.path)


def _administrator(og: OrganizationGroup) -> Administrator:
    name = f"{og.name.split()[0]}-admin".lower()
    return Administrator.objects.get_or_create(username=name)[0]


def addresses(og: OrganizationGroup) -> Iterator[str]:
    """Each address once, about objects of this group where it is about one."""
    resolver = get_resolver()
    console = next(
        item
        for item in resolver.url_patterns
        if isinstance(item, URLResolver) and str(item.pattern).endswith("console/")
    )
    for name, route, names in _patterns(console):
        yield BASE + _filled(name, route, names, og)


def _patterns(within: URLResolver, prefix: str = "") -> Iterator[tuple[str, str, list[str]]]:
    for item in within.url_patterns:
        route = prefix + str(item.pattern).lstrip("^").rstrip("$")
        if isinstance(item, URLResolver):
            yield from _patterns(item, route)
        elif isinstance(item, URLPattern):
            yield item.name or "", route, list(item.pattern.converters)


def _filled(name: str, route: str, parts: list[str], og: OrganizationGroup) -> str:
    if "(?P<app_label>" in route:
        return "tenants/"
    if "(?P<url>" in route:
        return "no-such-page"
    for part in parts:
        value = _object(name or _model_of(route), og) if part == "object_id" else None
        if value is None:
            assert part in PARTS, f"{route}: say in tests/console/walk.py what {part!r} may be"
            value = PARTS[part](og)
        start = route.rindex("<", 0, route.index(f"{part}>"))
        route = route[:start] + value + route[route.index(">", start) + 1 :]
    return route


def _model_of(route: str) -> str:
    """Django's shortcut to a row has no name: `tenants/apitoken/<path:object_id>/`."""
    app, model, *_ = route.split("/")
    return f"{app}_{model}_"


def _object(name: str, og: OrganizationGroup) -> str:
    model = next((model for model in OBJECTS if name.startswith(f"{model}_")), None)
    assert model is not None, f"{name}: give tests/console/walk.py an object for its model"
    return str(OBJECTS[model](og).pk)
