"""Silence is noticed in time, and only silence; phones that are gone are put to sleep."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from time import perf_counter, process_time
from typing import Any

import pytest

from apps import clock
from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.eventlog.factory import get_log
from apps.eventlog.models import Sign
from apps.eventlog.table import TableLog
from apps.exchange.interface import Credentials
from apps.history import stories
from apps.keypairs.models import SealedCredential
from apps.subscriptions import current, joining, scan
from apps.subscriptions.models import Scan, Subscription, WakeUp
from apps.subscriptions.webhook_url import id_of, name_of
from apps.tenants.models import MailSystem, OrganizationGroup

PERIOD = timedelta(minutes=30)


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._time = clock.time

    def now(self) -> datetime:
        return clock.now()

    def time(self) -> float:
        return self._time() + self.ahead.total_seconds()

    def passes(self, span: timedelta) -> None:
        """Let time go by with a scan every few minutes, as in life."""
        ends = self.ahead + span
        while self.ahead < ends:
            self.ahead = min(ends, self.ahead + timedelta(minutes=5))
            scan.silent_subscriptions()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    made = Time()
    monkeypatch.setattr(clock, "time", made.time)
    log = get_log()
    assert isinstance(log, TableLog)
    monkeypatch.setattr(log, "_life_clock", made.time, raising=False)
    yield made


def sign(subscription: Subscription) -> None:
    log = get_log()
    log.sign_of_life(name_of(subscription.id))
    assert isinstance(log, TableLog)
    log.flush()


@pytest.fixture
def device(enrol: Callable[..., Device]) -> Device:
    made = enrol()
    registry.proved(made.id, enrolment=made.secret_hash)
    made.refresh_from_db()
    return made


@pytest.fixture
def served(device: Device, mailbox: Mailbox, time: Time) -> Subscription:
    """A mailbox whose subscription has just given a sign of life."""
    scan.silent_subscriptions()
    entry = joining.begin(device, "anna@example.com", Credentials("basic", "anna", "x"))
    made = Subscription.objects.get(id=id_of(entry.partition))
    Subscription.objects.filter(id=made.id).update(state="active")
    current.swap(mailbox.pk, None, made.id)
    sign(made)
    made.refresh_from_db()
    return made


def state(subscription: Subscription) -> tuple[str, str]:
    subscription.refresh_from_db()
    return subscription.state, subscription.reason


def test_twice_the_frequency_of_silence_is_lost_and_the_phone_is_woken(
    served: Subscription, device: Device, time: Time
) -> None:
    time.passes(2 * PERIOD - timedelta(minutes=5))
    assert state(served) == ("active", "")
    time.passes(timedelta(minutes=10))
    assert state(served) == ("lost", "silent")
    assert WakeUp.objects.get().device_id == device.id
    # A catch-up has to look back to the last sign, which is forgotten otherwise.
    assert served.silent_since is not None
    assert time.now() - served.silent_since > 2 * PERIOD
    assert get_log().last_signs([name_of(served.id)]) == {}


def test_who_calls_in_time_is_never_lost(served: Subscription, time: Time) -> None:
    for _ in range(4):
        time.passes(2 * PERIOD - timedelta(minutes=5))
        sign(served)
    assert state(served) == ("active", "")


def test_an_own_frequency_counts(served: Subscription, time: Time) -> None:
    Subscription.objects.update(status_frequency_minutes=120)
    time.passes(4 * PERIOD)
    assert state(served) == ("active", "")
    time.passes(5 * PERIOD)
    assert state(served) == ("lost", "silent")


def test_after_our_own_absence_everyone_gets_time_anew(served: Subscription, time: Time) -> None:
    time.ahead += timedelta(hours=5)  # nobody scanned, nobody listened
    scan.silent_subscriptions()
    assert state(served) == ("active", "")
    time.passes(2 * PERIOD - timedelta(minutes=5))
    assert state(served) == ("active", "")
    time.passes(timedelta(minutes=10))
    assert state(served) == ("lost", "silent")
    assert Scan.objects.count() == 1


def test_one_that_was_only_late_is_alive_again(served: Subscription, time: Time) -> None:
    time.passes(2 * PERIOD + timedelta(minutes=5))
    assert state(served)[0] == "lost"
    time.ahead += timedelta(minutes=1)
    sign(served)
    scan.silent_subscriptions()
    assert state(served) == ("active", "exchange_called")
    assert served.silent_since is None


def test_a_scan_asks_no_more_for_a_thousand_healthy_ones(
    served: Subscription, time: Time, mailbox: Mailbox, django_assert_max_num_queries: Any
) -> None:
    for _ in range(1000):
        get_log().sign_of_life(name_of(scan_subscription(mailbox).id))
    sign(served)
    with django_assert_max_num_queries(10):
        assert scan.silent_subscriptions() == 0


def test_a_scan_marks_a_thousand_lost_ones_in_a_few_queries(
    og: OrganizationGroup, mailbox: Mailbox, time: Time, django_assert_max_num_queries: Any
) -> None:
    lost = 1000
    scan.silent_subscriptions()
    devices = [_served_device(og, mailbox.mail_system, number) for number in range(lost)]
    get_log().flush()
    time.passes(2 * PERIOD - timedelta(minutes=5))
    time.ahead += timedelta(minutes=10)
    # Two pages, in chunks of 400: a bounded number for each, and none for a single one.
    with django_assert_max_num_queries(90):
        assert scan.silent_subscriptions() == lost
    assert Subscription.objects.filter(state="lost", reason="silent").count() == lost
    assert Subscription.objects.filter(silent_since=None).count() == 0
    assert set(WakeUp.objects.values_list("device_id", flat=True)) == set(devices)
    moved = [entry for entry in stories.story(devices[7]) if entry.kind == "subscription"]
    assert moved[-1].facts == {"to": "lost", "reason": "silent"}
    # All of them call after all, beyond the first page too.
    time.ahead += timedelta(minutes=1)
    for subscription_id in Subscription.objects.values_list("id", flat=True):
        get_log().sign_of_life(name_of(subscription_id))
    get_log().flush()
    with django_assert_max_num_queries(60):
        scan.silent_subscriptions()
    assert Subscription.objects.filter(state="active", silent_since=None).count() == lost


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_are_scanned_within_a_second(
    og: OrganizationGroup, mailbox: Mailbox, time: Time
) -> None:
    """As promised; and once an Exchange restart has lost many of them, in reasonable time."""
    every, lost = [uuid.uuid4() for _ in range(100_000)], 5_000
    boxes = Mailbox.objects.bulk_create(
        Mailbox(mail_system=mailbox.mail_system, user_hmac=str(one), current_subscription=one)
        for one in every[:lost]
    )
    Device.objects.bulk_create(
        Device(og=og, mailbox=box, state="active", proved_at=clock.now()) for box in boxes
    )
    Subscription.objects.bulk_create(
        Subscription(id=one, mailbox=box, state="active", ews_url="https://x/")
        for one, box in zip_longest(every, boxes, fillvalue=mailbox)
    )
    scan.silent_subscriptions()
    at = clock.time()
    names = [name_of(one) for one in every]
    Sign.objects.bulk_create(Sign(partition=name, seen_at=at) for name in names)
    times = [_scanned(0) for _ in range(3)]
    assert min(times) < 1.0
    Sign.objects.filter(pk__in=names[:lost]).update(seen_at=at - 7200)
    Subscription.objects.update(created_at=clock.now() - timedelta(days=1))
    Scan.objects.update(here_since=clock.now() - timedelta(days=1))
    began = process_time()
    _scanned(lost)
    assert WakeUp.objects.count() == lost
    assert process_time() - began < 10.0, "CPU seconds"


def _scanned(lost: int) -> float:
    began = perf_counter()
    assert scan.silent_subscriptions() == lost
    return perf_counter() - began


def _served_device(og: OrganizationGroup, system: MailSystem, number: int) -> uuid.UUID:
    mailbox = Mailbox.objects.create(mail_system=system, user_hmac=f"{number:064x}")
    device = Device.objects.create(
        id=uuid.uuid4(), og=og, mailbox=mailbox, state="active", proved_at=clock.now()
    )
    made = scan_subscription(mailbox)
    Subscription.objects.filter(id=made.id).update(owner=device)
    current.swap(mailbox.pk, None, made.id)
    get_log().sign_of_life(name_of(made.id))
    return device.id


def scan_subscription(mailbox: Mailbox) -> Subscription:
    return Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x/")


def test_a_phone_that_misses_its_check_ins_sleeps_and_is_forgotten_at_last(
    served: Subscription, device: Device, time: Time
) -> None:
    Device.objects.update(last_checkin_at=time.now() - timedelta(hours=71))
    scan.missed_checkins()
    device.refresh_from_db()
    assert device.state == "active"
    Device.objects.update(last_checkin_at=time.now() - timedelta(hours=73))
    scan.missed_checkins()
    device.refresh_from_db()
    assert (device.state, device.reason) == ("asleep", "missed_checkins")
    # Nobody else needs the mailbox: its subscription ends and its credentials go.
    assert state(served) == ("ended", "owner_left")
    assert not SealedCredential.objects.exists()
    Device.objects.update(last_checkin_at=time.now() - timedelta(days=31))
    scan.missed_checkins()
    device.refresh_from_db()
    assert (device.state, device.reason) == ("retired", "missed_checkins")
    assert bytes(device.push_token_sealed) == b""
    assert device.secret_hash == ""


def test_a_sleeping_owners_mailbox_is_handed_to_a_phone_that_is_awake(
    served: Subscription, device: Device, enrol: Callable[..., Device], time: Time
) -> None:
    other = enrol("cd" * 32)
    registry.proved(other.id, enrolment=other.secret_hash)
    Device.objects.filter(id=device.id).update(last_checkin_at=time.now() - timedelta(hours=73))
    scan.missed_checkins()
    served.refresh_from_db()
    assert served.state == "active"
    assert served.hand_over_by is not None
    assert WakeUp.objects.get().device_id == other.id


def test_a_token_that_ends_soon_wakes_the_phone_that_has_others(
    served: Subscription, device: Device, time: Time
) -> None:
    scan.expiring_credentials()
    rows = Subscription.objects.filter(id=served.id)
    rows.update(owner=device, credentials_renew_at=time.now() + timedelta(minutes=1))
    scan.expiring_credentials()
    assert not WakeUp.objects.exists()
    rows.update(credentials_renew_at=time.now() - timedelta(minutes=1))
    scan.expiring_credentials()
    scan.expiring_credentials()
    assert WakeUp.objects.get().reason == "credentials_expiring"


def test_a_proof_that_runs_out_wakes_the_phone_that_should_have_brought_one(
    served: Subscription, device: Device, time: Time
) -> None:
    scan.overdue_proofs()
    assert not WakeUp.objects.exists()
    Device.objects.update(proved_at=time.now() - timedelta(hours=23, minutes=30))
    scan.overdue_proofs()
    scan.overdue_proofs()
    assert WakeUp.objects.get().reason == "proof_overdue"
