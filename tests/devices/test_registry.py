"""Devices: states, secrets and push tokens."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.devices.registry import Description
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup
from apps.vault.wrapping import UnwrapFailed


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group("Example")


@pytest.fixture
def mailbox(og: OrganizationGroup) -> Mailbox:
    return registry.mailbox_for(add_mail_system(og, "E", ["mail.example.com"]), "a@example.com")


def enrol(og: OrganizationGroup, mailbox: Mailbox, token: str = "ab" * 32) -> tuple[Device, str]:
    made = registry.enrol(
        og, mailbox, Description(platform="ios", app_id="x", push_token=token, ews_url="https://x")
    )
    assert made is not None
    return made


def test_a_user_is_known_however_the_address_is_written(mailbox: Mailbox) -> None:
    again = registry.mailbox_for(mailbox.mail_system, " A@Example.COM ")
    assert again == mailbox
    assert "example" not in mailbox.user_hmac


@pytest.mark.parametrize(("of", "to"), list(itertools.product(DeviceState, DeviceState)))
def test_only_listed_moves_happen(
    og: OrganizationGroup, mailbox: Mailbox, of: DeviceState, to: DeviceState
) -> None:
    device, _ = enrol(og, mailbox)
    Device.objects.update(state=of)
    assert registry.move(device.id, to, "why") is (to in registry.MOVES[of])
    device.refresh_from_db()
    assert device.state == (to if to in registry.MOVES[of] else of)


def test_a_blocked_device_can_not_enrol_again(og: OrganizationGroup, mailbox: Mailbox) -> None:
    device, _ = enrol(og, mailbox)
    registry.move(device.id, DeviceState.BLOCKED)
    said = Description(platform="ios", app_id="x", push_token="ab" * 32, ews_url="https://x")
    assert registry.enrol(og, mailbox, said) is None
    assert registry.proved(device.id) is False


def test_only_the_right_secret_opens(og: OrganizationGroup, mailbox: Mailbox) -> None:
    device, secret = enrol(og, mailbox)
    assert registry.authenticate(device.id, secret) == device
    assert registry.authenticate(device.id, secret + "x") is None
    assert registry.authenticate(device.id, "") is None
    assert registry.authenticate(uuid.uuid4(), secret) is None
    assert registry.authenticate(uuid.uuid4(), "") is None


def test_a_push_token_can_not_be_moved_to_another_row(
    og: OrganizationGroup, mailbox: Mailbox
) -> None:
    one, _ = enrol(og, mailbox)
    other, _ = enrol(og, mailbox, "cd" * 32)
    assert registry.push_token(one) == "ab" * 32
    other.push_token_sealed = one.push_token_sealed
    with pytest.raises(UnwrapFailed):
        registry.push_token(other)


def test_a_new_push_token_replaces_the_phones_earlier_row(
    og: OrganizationGroup, mailbox: Mailbox
) -> None:
    earlier, _ = enrol(og, mailbox)
    device, _ = enrol(og, mailbox, "cd" * 32)
    registry.replace_push_token(device, "ab" * 32)
    assert list(Device.objects.all()) == [device]
    assert registry.push_token(Device.objects.get()) == "ab" * 32
    assert not Device.objects.filter(id=earlier.id).exists()


def test_a_new_push_token_replaces_a_row_that_the_gateway_refused(
    og: OrganizationGroup, mailbox: Mailbox
) -> None:
    earlier, _ = enrol(og, mailbox)
    assert registry.refused_by_gateway(earlier.id, earlier.secret_hash)
    device, _ = enrol(og, mailbox, "cd" * 32)
    assert registry.replace_push_token(device, "ab" * 32)
    assert list(Device.objects.all()) == [device]


def test_a_token_is_retired_only_if_it_is_older_than_its_death(
    og: OrganizationGroup, mailbox: Mailbox
) -> None:
    device, _ = enrol(og, mailbox)
    registry.proved(device.id)
    token = "ab" * 32
    assert not registry.retire_dead_token(device.id, token, timezone.now() - timedelta(hours=1))
    assert not registry.retire_dead_token(device.id, "ef" * 32, None)
    assert registry.retire_dead_token(device.id, token, timezone.now())
    device.refresh_from_db()
    assert (device.state, device.reason) == ("retired", "push_token_dead")
