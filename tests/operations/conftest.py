"""A tree of two tenants, mailboxes in it, and phones with all their names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.devices.registry import Description
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup

URL = "https://mail.example.com/EWS/Exchange.asmx"


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group("Example")


@pytest.fixture
def system(og: OrganizationGroup) -> MailSystem:
    return add_mail_system(og, "Exchange", ["mail.example.com"], default_ews_url=URL)


@pytest.fixture
def mailbox(system: MailSystem) -> Mailbox:
    return registry.mailbox_for(system, "anna@example.com")


@pytest.fixture
def try_to_enrol(og: OrganizationGroup, mailbox: Mailbox) -> Callable[..., Device | None]:
    def made(
        push_token: str = "ab" * 32,
        uem_id: str = "",
        eas_id: str = "",
        platform: str = "ios",
        group: OrganizationGroup | None = None,
        box: Mailbox | None = None,
    ) -> Device | None:
        said = Description(
            platform=platform,
            app_id="com.example.mail",
            push_token=push_token,
            ews_url=URL,
            uem_id=uem_id,
            eas_id=eas_id,
        )
        enrolled = registry.enrol(group or og, box or mailbox, said)
        return enrolled[0] if enrolled else None

    return made


@pytest.fixture
def enrol(try_to_enrol: Callable[..., Device | None]) -> Callable[..., Device]:
    """A phone that has proved its mailbox."""

    def made(**said: object) -> Device:
        device = try_to_enrol(**said)
        assert device is not None
        registry.proved(device.id)
        device.refresh_from_db()
        return device

    return made
