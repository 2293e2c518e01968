"""A mailbox in a mail system, and devices on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.devices.registry import Description
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup

URL = "https://mail.example.com/EWS/Exchange.asmx"


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group("Example")


@pytest.fixture
def mailbox(og: OrganizationGroup) -> Mailbox:
    system = add_mail_system(og, "Exchange", ["mail.example.com"])
    return registry.mailbox_for(system, "anna@example.com")


@pytest.fixture
def enrol(og: OrganizationGroup, mailbox: Mailbox) -> Callable[..., Device]:
    def made(push_token: str = "ab" * 32, platform: str = "ios") -> Device:
        said = Description(
            platform=platform, app_id="com.example.mail", push_token=push_token, ews_url=URL
        )
        enrolled = registry.enrol(og, mailbox, said)
        assert enrolled is not None
        return enrolled[0]

    return made
