"""What people call a phone: kept where the group asks for it, sealed, and cleared when it stops."""

from __future__ import annotations

import pytest

from apps.devices import labels, registry
from apps.devices.labels import Kind, PeopleSettings
from apps.devices.models import Device
from apps.tenants.groups import create_group
from apps.tenants.inherited import SettingRefused, override
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup

pytestmark = pytest.mark.django_db


@pytest.fixture
def og() -> OrganizationGroup:
    made = create_group("Acme")
    add_mail_system(made, "Exchange", ["mail.example.com"])
    return made


def device(og: OrganizationGroup, token: str = "ab" * 32) -> Device:
    mailbox = registry.mailbox_for(og.mail_systems.get(), "anna.adler@example.com")
    said = registry.Description(
        platform="ios",
        app_id="com.example.mail",
        push_token=token,
        ews_url="",
        user_name="anna.adler",
        device_name="Anna's phone",
    )
    enrolled = registry.enrol(og, mailbox, said)
    assert enrolled is not None
    return Device.objects.get(id=enrolled[0].id)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("off", ""), ("user_name", "anna.adler"), ("device_name", "Anna's phone")],
)
def test_the_label_that_is_asked_for(og: OrganizationGroup, kind: Kind, shown: str) -> None:
    override(og, PeopleSettings, display_label=kind)
    made = device(og)
    assert labels.label_of(made) == shown
    stored = repr(Device.objects.values().get())
    assert "anna" not in stored.lower() and b"Anna".hex() not in stored


def test_it_goes_when_the_group_stops_asking_and_when_the_device_does(
    og: OrganizationGroup,
) -> None:
    override(og, PeopleSettings, display_label="user_name")
    first, second = device(og), device(og, "cd" * 32)
    labels.clear_unwanted()
    registry.disarm(first.id)
    assert [labels.label_of(Device.objects.get(id=one.id)) for one in (first, second)] == [
        "",
        "anna.adler",
    ]
    override(og, PeopleSettings, display_label="off")
    labels.clear_unwanted()
    assert labels.label_of(Device.objects.get(id=second.id)) == ""
    assert not Device.objects.exclude(label_sealed=None).exists()


def test_a_label_opens_in_its_own_row_only(og: OrganizationGroup) -> None:
    override(og, PeopleSettings, display_label="user_name")
    first, second = device(og), device(og, "cd" * 32)
    Device.objects.filter(id=second.id).update(label_sealed=first.label_sealed)
    assert labels.label_of(Device.objects.get(id=second.id)) == ""


def test_a_group_below_may_only_ask_for_less(og: OrganizationGroup) -> None:
    override(og, PeopleSettings, display_label="device_name")
    below = create_group("Branch", og)
    with pytest.raises(SettingRefused):
        override(below, PeopleSettings, display_label="user_name")
