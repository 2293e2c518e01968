"""What the drain is told of mailboxes: who may hear how much, and which credentials are usable."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from joserfc.jwk import ECKey

from apps import clock
from apps.announce import context
from apps.announce.context import Context, load
from apps.announce.policy import ContentPolicy, Quiet, Wishes
from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry, NewEntry
from apps.exchange.interface import Credentials
from apps.keypairs import signing
from apps.subscriptions import joining, refusals
from apps.subscriptions.entries import MAIL, JoinWork, MailWork
from apps.subscriptions.models import Subscription
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants.groups import create_group
from apps.tenants.inherited import override
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup

CREDENTIALS = Credentials("basic", "anna", "secret")
URL = "https://mail.example.com/EWS/Exchange.asmx"


@pytest.fixture
def entry(db: None) -> Entry:
    """Mail in a mailbox with one proved device."""
    og = create_group("Example")
    system = add_mail_system(og, "Exchange", ["mail.example.com"])
    mailbox = registry.mailbox_for(system, "anna@example.com")
    said = Description("ios", "com.example.mail", "ab" * 32, URL)
    enrolled = registry.enrol(og, mailbox, said)
    assert enrolled is not None
    begun = joining.begin(enrolled[0], "anna@example.com", CREDENTIALS)
    Subscription.objects.update(state="active")
    Device.objects.update(state="active", proved_at=clock.now())
    work = MailWork(creds=JoinWork.from_bytes(begun.payload).creds)
    return Entry(1, MAIL, begun.partition, work.to_bytes(), time.time(), 1)


def only(entry: Entry) -> Context:
    (context,) = load([entry]).values()
    return context


def test_a_proved_device_is_told_what_it_wishes(entry: Entry) -> None:
    context = only(entry)
    assert [target.rules.level for target in context.targets] == ["sender_subject"]
    assert context.may_fetch
    assert context.credentials == CREDENTIALS


def test_without_a_recent_proof_there_is_word_of_mail_and_no_content(entry: Entry) -> None:
    Device.objects.update(proved_at=clock.now() - timedelta(hours=25))
    assert [target.rules.level for target in only(entry).targets] == ["generic"]


def test_after_a_refusal_a_device_is_silent_until_it_has_proved_itself(entry: Entry) -> None:
    device = Device.objects.get()
    registry.demand_proof(device.mailbox_id)
    assert only(entry).targets == ()
    first = Device.objects.get().silent_since
    registry.demand_proof(device.mailbox_id)
    assert Device.objects.get().silent_since == first is not None
    registry.proved(device.id)
    assert len(only(entry).targets) == 1
    assert Device.objects.get().silent_since == first
    registry.caught_up(device.id, first)
    assert Device.objects.get().silent_since is None


def test_what_is_for_one_device_is_told_no_other(entry: Entry) -> None:
    device = Device.objects.get()
    said = Description("ios", "com.example.mail", "cd" * 32, URL)
    other = registry.enrol(device.og, device.mailbox, said)
    assert other is not None
    Device.objects.update(state="active", proved_at=clock.now())
    work = MailWork(creds=MailWork.from_bytes(entry.payload).creds, device=str(other[0].id))
    (alone,) = load([replace(entry, payload=work.to_bytes())]).values()
    assert [target.device_id for target in alone.targets] == [other[0].id]
    (both,) = load([replace(entry, payload=work.to_bytes()), entry]).values()
    assert len(both.targets) == 2


def test_dead_letters_are_looked_for_and_named(entry: Entry) -> None:
    event_log = get_log()
    event_log.append(NewEntry(MAIL, entry.partition, entry.payload))
    (lost,) = event_log.claim(MAIL, "test", 10, 30)
    event_log.bury(lost.id, "too_old")
    context = only(entry)
    assert context.dead_letters == (entry.partition,)
    assert context.missed_since is not None
    work = MailWork(creds="c", replays=("another",))
    (named,) = load([replace(entry, payload=work.to_bytes())]).values()
    assert set(named.dead_letters) == {entry.partition, "another"}


def test_credentials_that_somebody_tries_just_now_are_known(entry: Entry) -> None:
    mailbox = only(entry).mailbox
    assert refusals.begin_trial(mailbox, CREDENTIALS)
    assert only(entry).standing == "on_trial"
    assert only(entry).may_fetch
    refusals.end_trial(mailbox, CREDENTIALS)
    assert only(entry).standing is None


@pytest.mark.parametrize("state", ["joining", "refused", "retired", "blocked", "asleep"])
def test_only_active_devices_are_told(entry: Entry, state: str) -> None:
    Device.objects.update(state=state)
    assert only(entry).targets == ()


@pytest.mark.parametrize(("state", "reason"), [("active", ""), ("ended", "superseded")])
def test_refused_credentials_are_not_tried_again(entry: Entry, state: str, reason: str) -> None:
    Subscription.objects.update(state=state, reason=reason)
    context = only(entry)
    assert context.may_fetch
    refusals.remember(context.mailbox, CREDENTIALS)
    assert not only(entry).may_fetch


def test_a_host_that_is_listed_no_more_is_not_called(entry: Entry) -> None:
    MailSystem.objects.update(hosts=["other.example.com"])
    assert not only(entry).may_fetch


def level_and_envelope(entry: Entry) -> tuple[str, bool]:
    context.forget()
    (target,) = only(entry).targets
    return target.rules.level, target.envelope is not None


def test_a_device_with_a_content_key_is_told_nothing_in_clear(entry: Entry) -> None:
    key = ECKey.generate_key("P-256").as_dict(private=False)
    Device.objects.update(content_key=json.dumps(key))
    assert level_and_envelope(entry) == ("generic", False)  # nothing to sign with yet
    signing.rotate()
    assert level_and_envelope(entry) == ("sender_subject", True)


def test_a_group_may_insist_on_encryption(entry: Entry) -> None:
    signing.rotate()
    assert level_and_envelope(entry) == ("sender_subject", False)
    override(OrganizationGroup.objects.get(), ContentPolicy, require_encryption=True)
    assert level_and_envelope(entry) == ("generic", False)
    override(OrganizationGroup.objects.get(), ContentPolicy, level="none")
    assert level_and_envelope(entry) == ("none", False)


def test_where_email_notification_is_off_nobody_hears_anything(entry: Entry) -> None:
    override(OrganizationGroup.objects.get(), SubscriptionSettings, enabled=False)
    assert only(entry).targets == ()


def test_settings_are_read_again_after_seconds_and_not_for_every_mail(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [target.rules.level for target in only(entry).targets] == ["sender_subject"]
    override(OrganizationGroup.objects.get(), ContentPolicy, level="none")
    assert [target.rules.level for target in only(entry).targets] == ["sender_subject"]
    monkeypatch.setattr(context, "_SETTINGS_FRESH_S", -1.0)
    assert [target.rules.level for target in only(entry).targets] == ["none"]


def test_quiet_hours_of_a_device_leave_it_the_badge(entry: Entry) -> None:
    always = Wishes(quiet=(Quiet(tuple(range(1, 8)), 0, 0),))
    Device.objects.update(wishes=always.to_json())
    assert [target.rules.level for target in only(entry).targets] == ["none"]
