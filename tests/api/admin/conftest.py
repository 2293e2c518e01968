"""Two tenants, a part of one, devices in each, and administrators' tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from apps.administrators import api_tokens
from apps.administrators.models import Administrator, RoleAssignment
from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup

BASE = "/MailNotificationService/api/admin/v1/"
URL = "https://mail.example.com/EWS/Exchange.asmx"


class Api:
    """The admin API as a program sees it, without a socket."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token = client, token

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        return self.client.generic(
            method,
            BASE + path,
            "" if body is None else json.dumps(body),
            content_type="application/json",
            headers={"authorization": f"Bearer {self.token}"},
            query_params=query,
        )

    def get(self, path: str, **query: str) -> Any:
        return self.call("GET", path, **query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, {} if body is None else body)


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group("Example")


@pytest.fixture
def sales(og: OrganizationGroup) -> OrganizationGroup:
    return create_group("Sales", og)


@pytest.fixture
def other(db: None) -> OrganizationGroup:
    return create_group("Other")


@pytest.fixture
def enrol() -> Callable[..., Device]:
    """A phone of a group that has proved its mailbox."""

    def made(
        og: OrganizationGroup,
        address: str = "anna@example.com",
        push_token: str = "ab" * 32,
        uem_id: str = "",
    ) -> Device:
        root = OrganizationGroup.objects.get(path=og.path[: og.steplen])
        system = root.mail_systems.first() or add_mail_system(
            root, "Exchange", ["mail.example.com"], default_ews_url=URL
        )
        mailbox = registry.mailbox_for(system, address)
        said = Description("ios", "com.example.mail", push_token, URL, uem_id=uem_id)
        enrolled = registry.enrol(og, mailbox, said)
        assert enrolled is not None
        registry.proved(enrolled[0].id)
        return Device.objects.get(id=enrolled[0].id)

    return made


@pytest.fixture
def api(client: Client) -> Callable[..., Api]:
    """An API client whose token's owner has a role in a group (None: everywhere)."""

    def made(
        role: str,
        og: OrganizationGroup | None = None,
        scopes: tuple[str, ...] = api_tokens.SCOPES,
        token_og: OrganizationGroup | None = None,
    ) -> Api:
        name = f"{role}-{og.name if og else 'all'}".lower()
        owner, new = Administrator.objects.get_or_create(username=name)
        if new:
            RoleAssignment.objects.create(administrator=owner, role=role, og=og)
        _, token = api_tokens.issue(owner, token_og, "robot", scopes)
        return Api(client, token)

    return made
