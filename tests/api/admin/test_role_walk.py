"""Every route as every role: nobody sees or changes what is another's, strangers get nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern

from apps.administrators.roles import ROLE_PERMISSIONS, Role
from apps.api.admin import urls
from apps.api.admin.base import AdminView
from apps.devices.models import Block, Device
from apps.operations import device_actions
from apps.tenants.models import ApiToken, MailSystem, OgSetting, OrganizationGroup
from apps.tenants.tokens import issue_token
from tests.api.admin.conftest import Api

SECTION = "subscriptions"
# What each route is sent where a body is needed; what is missing here needs none.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "groups"): lambda guid: {"name": "New", "parent": guid},
    ("PATCH", "groups/<uuid:guid>/settings/<slug:section>"): {"values": {"asleep_hours": 5}},
    ("DELETE", "groups/<uuid:guid>/settings/<slug:section>"): {"names": ["asleep_hours"]},
    ("POST", "groups/<uuid:guid>/tokens"): {"label": "new"},
    ("POST", "groups/<uuid:guid>/mail-systems"): {"name": "New", "hosts": ["new.example.com"]},
    ("POST", "tokens/<int:pk>/rotate"): {"overlap_hours": 1},
    ("POST", "devices/<uuid:pk>/block"): {"shred_now": True},
    ("POST", "blocks"): lambda guid: {"group": guid, "uem_id": "uem-1", "shred_now": True},
    ("DELETE", "blocks"): lambda guid: {"group": guid, "uem_id": "uem-1"},
    ("POST", "persons/export"): {"address": "anna@example.com"},
    ("POST", "persons/forget"): {"address": "anna@example.com"},
}


def routes() -> Iterator[tuple[str, str, str | None]]:
    """Method, pattern and permission of every route that there is."""
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        view = pattern.callback.view_class  # type: ignore[attr-defined]
        assert issubclass(view, AdminView), pattern
        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            if hasattr(view, method.lower()) and method.lower() in view.http_method_names:
                yield method, str(pattern.pattern), view.permissions.get(method)


ROUTES = list(routes())


class Ground:
    """A group with a device and a token."""

    def __init__(self, og: OrganizationGroup, device: Device) -> None:
        self.og, self.device = og, device
        issue_token(og, "phones")
        self.token = ApiToken.objects.get(og=og)

    def call(self, api: Api, method: str, pattern: str) -> Any:
        path = (
            pattern.replace("<uuid:guid>", str(self.og.guid))
            .replace("<uuid:pk>", str(self.device.id))
            .replace("<int:pk>", str(self.token.pk))
            .replace("<slug:section>", SECTION)
        )
        body = BODIES.get((method, pattern))
        body = body(str(self.og.guid)) if callable(body) else body
        return api.call(method, path, body)

    def state(self) -> Any:
        """Everything of this group that a call could change."""
        return (
            list(OrganizationGroup.objects.filter(path__startswith=self.og.path).values()),
            list(Device.objects.filter(og=self.og).values("id", "state", "secret_hash")),
            list(ApiToken.objects.filter(og=self.og).values("id", "expires_at", "revoked_at")),
            list(OgSetting.objects.filter(og=self.og).values()),
            list(MailSystem.objects.filter(og=self.og).values("name")),
            list(Block.objects.filter(scope=self.og.path).values()),
        )


@pytest.fixture
def ours(sales: OrganizationGroup, enrol: Callable[..., Device]) -> Ground:
    return Ground(sales, enrol(sales, uem_id="uem-1"))


@pytest.fixture
def theirs(other: OrganizationGroup, enrol: Callable[..., Device]) -> Ground:
    return Ground(other, enrol(other, "canary@example.com", "cd" * 32, uem_id="uem-1"))


@pytest.fixture
def above(og: OrganizationGroup, enrol: Callable[..., Device]) -> Ground:
    return Ground(og, enrol(og, "boss@example.com", "ef" * 32))


@contextmanager
def undone() -> Iterator[None]:
    """Whatever happens in here has not happened afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_a_stranger_gets_nothing(client: Client, ours: Ground) -> None:
    before = ours.state()
    for method, pattern, _ in ROUTES:
        for token in ("", "ensadm_wrong", "ens_wrong"):
            answer = ours.call(Api(client, token), method, pattern)
            assert answer.status_code == 401, pattern
            assert answer.json()["code"] == "unauthorized"
    assert ours.state() == before


@pytest.mark.parametrize("role", list(Role))
def test_no_role_reaches_another_group(
    api: Callable[..., Api], ours: Ground, theirs: Ground, above: Ground, role: str
) -> None:
    caller = api(role, ours.og)
    for foreign in (theirs, above):
        before = foreign.state()
        for method, pattern, _ in ROUTES:
            with undone():
                answer = foreign.call(caller, method, pattern)
                assert foreign.state() == before, pattern
            if "<" in pattern or (method, pattern) in {("POST", "groups"), ("POST", "blocks")}:
                forbidden = answer.json()["code"] == "forbidden"
                assert answer.status_code == 404 or forbidden, pattern
            told = answer.content.decode()
            for canary in (str(foreign.og.guid), str(foreign.device.id)):
                assert canary not in told, pattern


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_what_its_permissions_say(
    api: Callable[..., Api], ours: Ground, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(
        device_actions,
        "_send",
        lambda devices, *_: [device_actions.Outcome(devices[0].id, True)],
    )
    caller, before = api(role, ours.og), ours.state()
    for method, pattern, permission in ROUTES:
        with undone():
            answer = ours.call(caller, method, pattern)
            if permission is None or permission in ROLE_PERMISSIONS[role]:
                assert answer.status_code < 300, (pattern, answer.content)
                continue
            # Nothing is done and nothing told, whatever the scopes of the token.
            assert ours.state() == before, pattern
        if answer.status_code == 200:  # an empty list, an unknown person
            told = json.dumps(answer.json())
            assert str(ours.device.id) not in told and str(ours.og.guid) not in told
        else:
            assert answer.status_code in (403, 404), pattern


def test_a_token_may_no_more_than_its_scopes(api: Callable[..., Api], ours: Ground) -> None:
    narrow = "config.download"  # which no route asks for
    caller = api(Role.SYSTEM_ADMINISTRATOR, None, scopes=(narrow,))
    for method, pattern, permission in ROUTES:
        assert permission != narrow
        if permission is not None:
            answer = ours.call(caller, method, pattern)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), pattern


def test_a_token_is_held_to_its_own_group(
    api: Callable[..., Api], ours: Ground, theirs: Ground, above: Ground
) -> None:
    held = api(Role.SYSTEM_ADMINISTRATOR, None, token_og=ours.og)
    assert [one["guid"] for one in held.get("groups").json()["items"]] == [str(ours.og.guid)]
    (device,) = held.get("devices").json()["items"]
    assert device["id"] == str(ours.device.id)
    assert held.get(f"devices/{theirs.device.id}").status_code == 404


def test_what_there_is_not_looks_like_what_is_anothers(
    api: Callable[..., Api], ours: Ground, theirs: Ground
) -> None:
    caller = api(Role.OG_ADMINISTRATOR, ours.og)
    foreign = caller.get(f"devices/{theirs.device.id}")
    none = caller.get(f"devices/{uuid.uuid4()}")
    assert foreign.status_code == none.status_code == 404
    assert foreign.json() == none.json()
