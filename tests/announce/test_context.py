"""What the drain is told of mailboxes: who may hear how much, and which credentials are usable."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from apps import clock
from apps.announce.context import Context, load
from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.eventlog.interface import Entry
from apps.exchange.interface import Credentials
from apps.subscriptions import joining, refusals
from apps.subscriptions.entries import MAIL, JoinWork, MailWork
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem

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


@pytest.mark.parametrize("proved", [None, timedelta(hours=25)], ids=["refused since", "too old"])
def test_without_a_recent_proof_there_is_word_of_mail_and_no_content(
    entry: Entry, proved: timedelta | None
) -> None:
    Device.objects.update(proved_at=proved and clock.now() - proved)
    assert [target.rules.level for target in only(entry).targets] == ["generic"]


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
