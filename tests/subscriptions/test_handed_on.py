"""A phone that somebody else has now: its app names the accounts that it is set up for."""

from __future__ import annotations

import uuid

from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.subscriptions import ending
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup
from tests.subscriptions.conftest import URL


def device_of(og: OrganizationGroup, user: str, *accounts: str, token: str = "ab" * 32) -> Device:
    system = MailSystem.objects.first() or add_mail_system(og, "X", ["mail.example.com"])
    said = Description(
        "ios",
        "com.example.mail",
        token,
        URL,
        accounts=tuple(map(registry.user_id, accounts)) or None,
    )
    mailbox = registry.mailbox_for(system, f"{user}@example.com")
    enrolled = registry.enrol(og, mailbox, said)
    assert enrolled is not None
    return enrolled[0]


def replaced_by(device: Device) -> set[uuid.UUID]:
    registry.proved(device.id)
    return {each.id for each in registry.handed_on(device.id)}


def test_who_is_not_named_is_dropped(og: OrganizationGroup) -> None:
    anna, ben = device_of(og, "anna"), device_of(og, "ben")
    other_phone = device_of(og, "anna", token="cd" * 32)
    carl = device_of(og, "carl", "ben@example.com")
    assert replaced_by(carl) == {anna.id}
    assert not {ben.id, other_phone.id} & replaced_by(carl)


def test_an_app_that_names_nobody_drops_nobody(og: OrganizationGroup) -> None:
    device_of(og, "anna")
    assert replaced_by(device_of(og, "carl")) == set()


def test_it_happens_once_and_never_to_who_came_later(og: OrganizationGroup) -> None:
    anna = device_of(og, "anna", "anna@example.com")
    ben = device_of(og, "ben", "anna@example.com", "ben@example.com")
    # Anna's proof took longer than Ben's; the list she came with is the older one.
    assert replaced_by(ben) == set()
    assert replaced_by(anna) == set()
    carl = device_of(og, "carl", "carl@example.com")
    assert replaced_by(carl) == {anna.id, ben.id}
    device_of(og, "dora")
    assert replaced_by(carl) == set()


def test_another_customers_devices_are_out_of_reach(og: OrganizationGroup) -> None:
    anna = device_of(og, "anna")
    stranger = create_group("Another customer")
    assert replaced_by(device_of(stranger, "eve", "eve@example.com")) == set()
    branch = create_group("Branch", og)
    assert replaced_by(device_of(branch, "carl", "carl@example.com")) == {anna.id}


def test_a_dropped_device_has_neither_token_nor_secret(og: OrganizationGroup) -> None:
    anna = device_of(og, "anna")
    ending.retire(anna, "handed_on")
    anna.refresh_from_db()
    assert (anna.state, anna.reason) == ("retired", "handed_on")
    assert (bytes(anna.push_token_sealed), anna.secret_hash) == (b"", "")
