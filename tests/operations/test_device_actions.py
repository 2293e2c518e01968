"""What administrators do with devices."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from apps.audit.models import AuditEntry
from apps.cns.answer import Result
from apps.cns.client import Push
from apps.cns.configured import CnsNotConfigured
from apps.cns.errors import CnsRefused
from apps.devices import blocks, registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.exchange.interface import Credentials
from apps.history import stories
from apps.keypairs.models import SealedCredential
from apps.operations import device_actions
from apps.operations.device_actions import By, OutOfScope
from apps.subscriptions import current, joining
from apps.subscriptions.models import Subscription, WakeUp
from apps.subscriptions.webhook_url import id_of
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup
from apps.vault.lookup import lookup_hmac
from ens_project.env import BASE_DIR

ANNA = By("admin", "192.0.2.1")
OTHER_TOKEN = "cd" * 32


class Relay:
    """Stands where the client of the relay would: keeps what it is given."""

    def __init__(self) -> None:
        self.pushes: list[tuple[str, Push]] = []
        self.answer, self.reason = "accepted", ""

    async def send(self, service: str, pushes: Sequence[Push]) -> list[Result]:
        if self.answer == "refused":
            raise CnsRefused("certificate_unknown")
        self.pushes += [(service, push) for push in pushes]
        since = datetime.now(UTC)
        return [Result(push.id, self.answer, self.reason, since) for push in pushes]  # type: ignore[arg-type]


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    made = Relay()
    monkeypatch.setattr(device_actions, "shared_client", lambda: made)
    return made


def state(device: Device) -> str:
    return Device.objects.get(id=device.id).state


def owning(device: Device) -> Subscription:
    """The device's subscription, current in its mailbox."""
    entry = joining.begin(device, "anna@example.com", Credentials("basic", "anna", "secret"))
    made = Subscription.objects.get(id=id_of(entry.partition))
    Subscription.objects.filter(id=made.id).update(state="active")
    current.swap(device.mailbox_id, None, made.id)
    made.refresh_from_db()
    return made


def test_a_blocked_phone_keeps_neither_token_nor_secret(enrol: Callable[..., Device]) -> None:
    device = enrol(uem_id="uem-1")
    assert device_actions.block(device, ANNA, shred_now=True) == [device.id]
    device.refresh_from_db()
    assert (device.state, device.reason) == ("blocked", "administrator")
    assert bytes(device.push_token_sealed) == b"" and device.secret_hash == ""
    assert registry.active_among([device.id]) == set()
    assert device_actions.block(device, ANNA, shred_now=True) == []
    entry = AuditEntry.objects.filter(action="device.block").last()
    assert entry is not None
    assert (entry.actor, entry.address, entry.target) == (
        "admin",
        "192.0.2.1",
        f"device {device.id}",
    )
    assert entry.before == {"state": "active"}
    assert [str(entry.facts["to"]) for entry in stories.story(device.id)][-1:] in (["blocked"], [])


@pytest.mark.parametrize(
    "again",
    [
        {"uem_id": "uem-1", "push_token": OTHER_TOKEN},
        {"eas_id": "eas-1", "push_token": OTHER_TOKEN},
        {"push_token": "ab" * 32},
    ],
    ids=["by UEM id", "by EAS id", "by push token"],
)
def test_a_block_survives_a_new_subscription_even_in_another_mailbox_or_once_the_row_is_gone(
    enrol: Callable[..., Device],
    try_to_enrol: Callable[..., Device | None],
    mailbox: Mailbox,
    again: dict[str, str],
) -> None:
    device = enrol(uem_id="uem-1", eas_id="eas-1")
    device_actions.block(device, ANNA, shred_now=True)
    assert try_to_enrol(**again) is None
    other = registry.mailbox_for(mailbox.mail_system, "bert@example.com")
    assert try_to_enrol(box=other, **again) is None
    device_actions.remove(device, ANNA)
    assert try_to_enrol(**again) is None
    assert try_to_enrol(push_token="ef" * 32, uem_id="uem-2") is not None


def test_a_phones_other_rows_are_blocked_with_it_and_freed_with_it(
    enrol: Callable[..., Device], try_to_enrol: Callable[..., Device | None], mailbox: Mailbox
) -> None:
    other_box = registry.mailbox_for(mailbox.mail_system, "bert@example.com")
    one, two = enrol(uem_id="uem-1"), enrol(uem_id="uem-1", box=other_box, push_token=OTHER_TOKEN)
    stranger = enrol(uem_id="uem-2", push_token="ef" * 32)
    assert set(device_actions.block(one, ANNA, shred_now=False)) == {one.id, two.id}
    assert state(stranger) == "active"
    # The second row's push token is barred as well, whatever UEM id comes with it.
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id="uem-3") is None
    assert {row.kind for row in device_actions.blocks_of(two)} == {"uem", "push-token"}
    assert set(device_actions.unblock(one, ANNA)) == {one.id, two.id}
    assert state(one) == state(two) == "retired"
    assert device_actions.blocks_of(two) == []
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id="uem-1") is not None


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("UEM-A1", "uem-a1"),
        ("uem-a1", " UEM-A1 "),
        (
            "{8D2F00AA-0000-4000-8000-0000000000FE}",
            "8d2f00aa00004000800000000000" + "00fe",
        ),
    ],
)
def test_no_other_way_of_writing_its_id_gets_a_phone_past_a_block(
    enrol: Callable[..., Device],
    try_to_enrol: Callable[..., Device | None],
    named: str,
    said: str,
) -> None:
    device = enrol(uem_id=said)
    assert device_actions.block_named(device.og, "uem", named, ANNA, shred_now=True) == [device.id]
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id=said) is None
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id=named) is None
    assert device_actions.unblock_named(device.og, "uem", said, ANNA) == [device.id]
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id=named) is not None


def test_a_phone_that_an_older_release_enrolled_is_found_by_its_id_as_it_wrote_it(
    enrol: Callable[..., Device], try_to_enrol: Callable[..., Device | None]
) -> None:
    device = enrol(uem_id="UEM-1")
    Device.objects.filter(id=device.id).update(uem_hmac=lookup_hmac("uem", "UEM-1"))
    assert device_actions.block_named(device.og, "uem", "UEM-1", ANNA, shred_now=True)
    assert try_to_enrol(push_token=OTHER_TOKEN, uem_id="UEM-1") is None


def test_a_phone_that_nobody_knows_yet_is_blocked_by_its_uem_id(
    og: OrganizationGroup, try_to_enrol: Callable[..., Device | None]
) -> None:
    assert device_actions.block_named(og, "uem", "uem-9", ANNA, shred_now=True) == []
    assert try_to_enrol(uem_id="uem-9") is None
    entry = AuditEntry.objects.get()
    assert "uem-9" not in f"{entry.target} {entry.before} {entry.after}"
    device_actions.unblock_named(og, "uem", "uem-9", ANNA)
    assert try_to_enrol(uem_id="uem-9") is not None


def test_a_block_stays_in_the_scope_of_who_made_it(
    og: OrganizationGroup,
    mailbox: Mailbox,
    enrol: Callable[..., Device],
    try_to_enrol: Callable[..., Device | None],
) -> None:
    sales, service = create_group("Sales", og), create_group("Service", og)
    tenant = create_group("Other")
    box = registry.mailbox_for(add_mail_system(tenant, "X", ["mail.example.com"]), "a@example.com")
    ours = enrol(uem_id="uem-1", group=sales)
    theirs = enrol(uem_id="uem-1", group=service, push_token=OTHER_TOKEN)
    foreign = enrol(uem_id="uem-1", group=tenant, box=box, push_token="ef" * 32)
    of_sales = By("sales admin", og_paths=(sales.path,))
    assert device_actions.block(ours, of_sales, shred_now=True) == [ours.id]
    assert state(theirs) == state(foreign) == "active"
    assert try_to_enrol(uem_id="uem-1", group=service, push_token="12" * 32) is not None
    with pytest.raises(OutOfScope):
        device_actions.block(theirs, of_sales, shred_now=True)
    with pytest.raises(OutOfScope):
        device_actions.unblock_named(tenant, "uem", "uem-1", of_sales)
    # Who sees all blocks for the whole tree; that is not for sales to lift.
    assert set(device_actions.block(theirs, ANNA, shred_now=True)) >= {theirs.id}
    assert device_actions.unblock(ours, of_sales) == []
    assert state(ours) == "blocked" and state(foreign) == "active"
    assert ours.id in device_actions.unblock(ours, ANNA)


def test_nobody_joins_past_a_block_made_at_the_same_moment(
    og: OrganizationGroup, try_to_enrol: Callable[..., Device | None]
) -> None:
    device = try_to_enrol(uem_id="uem-1")
    assert device is not None
    blocks.add(og.path, [blocks.name("uem", "uem-1")], reason="compliance")
    assert registry.proved(device.id) is False
    assert state(device) == "blocked"


def test_a_blocked_push_token_is_not_brought_in_by_a_checkin(
    enrol: Callable[..., Device],
) -> None:
    lost, other = enrol(), enrol(push_token=OTHER_TOKEN, uem_id="uem-2")
    device_actions.block(lost, ANNA, shred_now=True)
    registry.replace_push_token(other, "ab" * 32)
    assert state(other) == "blocked"


@pytest.mark.parametrize("shred_now", [True, False])
def test_shredding_now_is_a_choice(enrol: Callable[..., Device], shred_now: bool) -> None:
    owner, other = enrol(), enrol(push_token=OTHER_TOKEN)
    subscription = owning(owner)
    device_actions.block(owner, ANNA, shred_now=shred_now)
    subscription.refresh_from_db()
    assert SealedCredential.objects.exists() is not shred_now
    assert (subscription.state == "ended") is shred_now
    assert (subscription.hand_over_by is not None) is not shred_now
    # Either way the other phone is asked for its credentials.
    assert WakeUp.objects.filter(device=other).exists()


def test_a_mailbox_without_other_phones_is_given_up_at_once(enrol: Callable[..., Device]) -> None:
    owner = enrol()
    subscription = owning(owner)
    device_actions.block(owner, ANNA, shred_now=False)
    subscription.refresh_from_db()
    assert subscription.state == "ended" and not SealedCredential.objects.exists()


def test_no_dead_token_leads_out_of_a_block(enrol: Callable[..., Device]) -> None:
    device = enrol()
    device_actions.block(device, ANNA, shred_now=True)
    registry.retire_dead_token(device.id, "ab" * 32, None)
    assert registry.move(device.id, DeviceState.RETIRED, "away") is False
    assert state(device) == "blocked"


def test_test_notifications_and_checkins(enrol: Callable[..., Device], relay: Relay) -> None:
    phone = enrol()
    tablet = enrol(platform="android", push_token="a:token")
    outcomes = device_actions.test_notification([phone, tablet], ANNA)
    assert all(outcome.done for outcome in outcomes)
    assert [(service, push.push_type) for service, push in relay.pushes] == [
        ("apns", "alert"),
        ("fcm", "alert"),
    ]
    device_actions.request_checkin([phone], ANNA)
    assert relay.pushes[-1][1].push_type == "background"
    assert AuditEntry.objects.filter(action="device.test_notification").count() == 2


def test_what_becomes_of_a_push_is_told(enrol: Callable[..., Device], relay: Relay) -> None:
    device = enrol()
    relay.answer, relay.reason = "dead", "Unregistered"
    (outcome,) = device_actions.test_notification([device], ANNA)
    assert (outcome.done, outcome.code) == (False, "Unregistered")
    assert state(device) == "retired"
    relay.answer = "refused"
    other = enrol(push_token=OTHER_TOKEN)
    (outcome,) = device_actions.test_notification([other], ANNA)
    assert outcome.code == "certificate_unknown"
    device_actions.block(other, ANNA, shred_now=True)
    other.refresh_from_db()
    (outcome,) = device_actions.test_notification([other], ANNA)
    assert outcome.code == "no_push_token"


def test_without_a_relay_the_outcome_says_so(
    enrol: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise CnsNotConfigured("ENS_CNS_URL is missing")

    monkeypatch.setattr(device_actions, "shared_client", missing)
    (outcome,) = device_actions.test_notification([enrol()], ANNA)
    assert outcome.code == "relay_not_configured"


def test_the_test_push_is_the_one_that_the_guide_shows() -> None:
    guide = (BASE_DIR / "docs" / "device-api.md").read_text("utf-8")
    for service, name in (("apns", "test"), ("fcm", "test-android")):
        found = re.search(rf"```json {name}\n(.*?)```", guide, re.DOTALL)
        assert found is not None
        assert json.loads(found[1]) == device_actions._TEST[service]  # type: ignore[index]
