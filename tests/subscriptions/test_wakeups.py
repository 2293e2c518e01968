"""Wake-ups are few, spread, and stop when they are not needed any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from apps import clock
from apps.cns.answer import Result
from apps.cns.client import Push
from apps.cns.errors import CnsUnavailable
from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.exchange.interface import Credentials
from apps.subscriptions import checkin, current, joining, tasks, wake_rate, wakeups
from apps.subscriptions.models import Scan, Subscription, WakeRate, WakeUp
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import OrganizationGroup


class Relay:
    """Stands where the client of the relay would: keeps what it is given."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.services: list[str] = []
        self.times: list[float] = []
        self.answers = "accepted"

    async def send(self, service: str, pushes: Sequence[Push]) -> list[Result]:
        self.services.append(service)
        if self.answers == "unavailable":
            raise CnsUnavailable("connect_failed")
        self.pushes += pushes
        self.times += [time.monotonic()] * len(pushes)
        return [Result(push.id, self.answers) for push in pushes]  # type: ignore[arg-type]


@pytest.fixture
def relay() -> Relay:
    return Relay()


@pytest.fixture
def device(enrol: Callable[..., Device]) -> Device:
    made = enrol()
    registry.proved(made.id, enrolment=made.secret_hash)
    made.refresh_from_db()
    return made


def send(relay: Relay, **options: int) -> int:
    return wakeups.send_due(relay, options.get("a_second", 20))  # type: ignore[arg-type]


def let_come(minutes: float = 0) -> None:
    """Make what is due within so many minutes due now."""
    soon = clock.now() + timedelta(minutes=minutes, seconds=30)
    WakeUp.objects.filter(due_at__lte=soon).update(due_at=clock.now())


def test_the_first_is_silent_and_the_next_is_not_soon(relay: Relay, device: Device) -> None:
    wakeups.ask([device.id], "silent")
    wakeups.ask([device.id], "silent")
    let_come()
    assert send(relay) == 1
    (push,) = relay.pushes
    assert (push.push_type, push.priority) == ("background", 5)
    assert push.payload == {"aps": {"content-available": 1}, "ens": {"v": 1, "kind": "wakeup"}}
    let_come(minutes=20)
    assert send(relay) == 0


def test_after_three_silent_ones_comes_one_that_can_be_seen_and_only_one(
    relay: Relay, device: Device
) -> None:
    wakeups.ask([device.id], "silent")
    for _ in range(6):
        let_come(minutes=60 * 24)
        assert send(relay) == 1
    kinds = [push.payload["ens"]["kind"] for push in relay.pushes]
    assert kinds == ["wakeup", "wakeup", "wakeup", "reconnect", "wakeup", "wakeup"]
    seen = relay.pushes[3]
    assert (seen.push_type, seen.priority) == ("alert", 10)
    assert seen.payload["aps"]["alert"]["title"] == "Mail needs to reconnect"


def test_after_a_refusal_the_user_hears_after_the_first_in_vain(
    relay: Relay, device: Device
) -> None:
    """Such a phone is silent until it has proved itself."""
    wakeups.demand_proof(device.mailbox_id)
    for _ in range(3):
        let_come(minutes=60 * 24)
        assert send(relay) == 1
    kinds = [push.payload["ens"]["kind"] for push in relay.pushes]
    assert kinds == ["wakeup", "reconnect", "wakeup"]


def test_a_phone_whose_proof_is_under_way_is_left_alone_and_not_forgotten(
    relay: Relay, device: Device
) -> None:
    wakeups.ask([device.id], "silent")
    joining.begin(device, "anna@example.com", Credentials("basic", "anna", "secret"))
    assert checkin.instruct(device).do == "wait"
    let_come()
    assert send(relay) == 0
    assert WakeUp.objects.get().due_at > clock.now()


def test_what_somebody_else_repaired_is_dropped(
    relay: Relay, device: Device, mailbox: Mailbox
) -> None:
    wakeups.ask([device.id], "silent")
    served = Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x/")
    current.swap(mailbox.pk, None, served.id)
    let_come()
    assert send(relay) == 0
    assert relay.pushes == []
    assert not WakeUp.objects.exists()


def test_a_check_in_with_nothing_to_do_ends_it(device: Device, mailbox: Mailbox) -> None:
    wakeups.ask([device.id], "silent")
    assert checkin.instruct(device).do == "send_credentials"
    assert WakeUp.objects.exists()
    served = Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x/")
    current.swap(mailbox.pk, None, served.id)
    device.mailbox.refresh_from_db()
    assert checkin.instruct(device).do == "nothing"
    assert not WakeUp.objects.exists()


def flood(enrol: Callable[..., Device], count: int) -> None:
    """So many phones of the mail system are to be woken now."""
    for number in range(count):
        made = enrol(f"{number:064x}")
        registry.proved(made.id, enrolment=made.secret_hash)
        wakeups.ask([made.id], "silent")
    let_come()


def test_a_mail_systems_phones_are_woken_at_a_limited_rate(
    relay: Relay, enrol: Callable[..., Device]
) -> None:
    flood(enrol, 30)
    assert send(relay, a_second=12) == 30
    times = sorted(relay.times)
    # In no second more than twelve, and no slower than that either.
    assert all(b - a >= 0.95 for a, b in zip(times, times[12:], strict=False))
    assert times[-1] - times[0] < 4.0


@pytest.mark.django_db(transaction=True)
def test_several_workers_share_the_limit_and_late_tasks_do_not_double_it(
    relay: Relay, og: OrganizationGroup, mailbox: Mailbox
) -> None:
    """Six processes' tasks at the same instant, and again right after."""
    system = mailbox.mail_system_id

    def ask(_number: int) -> tuple[float, int]:
        try:
            return time.time(), wake_rate.take(system, 5, 20)
        finally:
            connections.close_all()

    for _ in range(3):
        with ThreadPoolExecutor(6) as pool:
            granted = list(pool.map(ask, range(12)))
        if max(at for at, _ in granted) - min(at for at, _ in granted) < 0.9:
            assert 0 < sum(number for _, number in granted) <= 20
        assert wake_rate.take(system, 5, 20) == 0
        time.sleep(1.05)
    assert wake_rate.take(system, 50, 20) == 20


def test_a_clock_that_was_wrong_does_not_stop_wake_ups(mailbox: Mailbox) -> None:
    far = time.time() + 3600
    WakeRate.objects.create(mail_system_id=mailbox.mail_system_id, grants=f"[[{far}, 20]]")
    assert wake_rate.take(mailbox.mail_system_id, 5, 20) == 5


def test_asking_for_many_is_a_few_queries_and_leaves_those_that_are_woken_already(
    enrol: Callable[..., Device], django_assert_max_num_queries: Any
) -> None:
    devices = [enrol(f"{number:064x}").id for number in range(300)]
    wakeups.ask(devices[:1], "earlier")
    with django_assert_max_num_queries(6):
        wakeups.ask(devices, "silent")
    assert WakeUp.objects.filter(reason="silent").count() == 299
    assert WakeUp.objects.get(reason="earlier").device_id == devices[0]


def test_a_relay_that_is_away_costs_no_wake_up(relay: Relay, device: Device) -> None:
    wakeups.ask([device.id], "silent")
    let_come()
    relay.answers = "unavailable"
    send(relay)
    row = WakeUp.objects.get()
    assert row.sent == 0
    assert timedelta() < row.due_at - clock.now() <= timedelta(minutes=1)


def test_a_dead_token_is_retired(relay: Relay, device: Device) -> None:
    wakeups.ask([device.id], "silent")
    let_come()
    relay.answers = "dead"
    send(relay)
    device.refresh_from_db()
    assert (device.state, device.reason) == ("retired", "push_token_dead")
    assert not WakeUp.objects.exists()


def test_another_mail_systems_phones_do_not_wait_for_a_flood(
    relay: Relay, enrol: Callable[..., Device], og: OrganizationGroup
) -> None:
    flood(enrol, 30)
    other = registry.mailbox_for(add_mail_system(og, "Other", ["other.example.com"]), "b@x.example")
    late = enrol("cd" * 32)
    Device.objects.filter(id=late.id).update(mailbox=other)
    registry.proved(late.id, enrolment=late.secret_hash)
    let_come()
    wakeups.ask([late.id], "silent")
    let_come()
    WakeUp.objects.exclude(device_id=late.id).update(due_at=clock.now() - timedelta(minutes=1))
    wakeups.send_due(relay, 2, seconds=0.0)  # type: ignore[arg-type]
    assert registry.push_token(late) in {push.token for push in relay.pushes}


def test_of_two_workers_that_chose_the_same_one_sends(relay: Relay, device: Device) -> None:
    wakeups.ask([device.id], "silent")
    let_come()
    read_by_both = list(WakeUp.objects.select_related("device"))
    assert wakeups._send(relay, read_by_both) == 1  # type: ignore[arg-type]
    assert wakeups._send(relay, read_by_both) == 0  # type: ignore[arg-type]
    assert len(relay.pushes) == 1


def test_a_scan_that_takes_long_is_not_joined_by_the_next(db: None) -> None:
    with tasks._one_scanner:
        assert tasks.look() == 0
    assert not Scan.objects.exists()
    tasks.look()
    assert Scan.objects.exists()


def test_an_android_phone_is_woken_through_google(
    relay: Relay, enrol: Callable[..., Device]
) -> None:
    made = enrol("f" * 100 + ":APA91b_-x", "android")
    registry.proved(made.id, enrolment=made.secret_hash)
    wakeups.ask([made.id], "silent")
    let_come()
    assert send(relay) == 1
    assert relay.services == ["fcm"]
    assert relay.pushes[0].payload == {"data": {"v": "1", "kind": "wakeup"}}


def test_who_is_blocked_while_the_other_push_service_is_slow_is_not_woken(
    relay: Relay,
    device: Device,
    enrol: Callable[..., Device],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    android = enrol("f" * 100 + ":APA91b_-x", "android")
    registry.proved(android.id, enrolment=android.secret_hash)
    for each in (device, android):
        wakeups.ask([each.id], "silent")
    chosen = list(WakeUp.objects.select_related("device"))
    last, call = chosen[-1].device, wakeups._call

    def slow(*asked: Any) -> None:
        registry.move(last.id, DeviceState.BLOCKED, "administrator")
        wakeups.answered(last.id)
        call(*asked)

    monkeypatch.setattr(wakeups, "_call", slow)
    assert wakeups._send(relay, chosen) == 1  # type: ignore[arg-type]
    assert len(relay.services) == 1
