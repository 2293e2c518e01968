"""The alerts that ENS raises by itself: each when it should, and over when it should."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.eventlog.factory import get_log
from apps.eventlog.interface import NewEntry
from apps.history import names
from apps.history.models import MinuteCount
from apps.operations import alerts, database_clock, lease
from apps.operations.alerts import Watch
from apps.operations.models import Lease
from apps.subscriptions.entries import MAIL
from apps.subscriptions.models import Scan

pytestmark = pytest.mark.django_db(transaction=True)


def counted(name: str, n: int = 1, minutes_ago: int = 0) -> None:
    minute = int(time.time()) // 60 - minutes_ago
    MinuteCount.objects.update_or_create(name=name, minute=minute, defaults={"n": n})


def raised() -> set[str]:
    return set(Alert.objects.filter(raised=True).values_list("key", flat=True))


@pytest.fixture
def watch() -> Watch:
    """One that has just begun, with a worker at work."""
    counted(names.DRAIN_RUNS)
    return Watch()


@pytest.fixture
def look(watch: Watch) -> Callable[[], set[str]]:
    def once() -> set[str]:
        watch.look()
        return raised()

    return once


def test_nothing_is_wrong_at_first(look: Callable[[], set[str]]) -> None:
    assert look() == set()


def test_a_relay_that_refuses_us(look: Callable[[], set[str]]) -> None:
    counted("relay_calls.refused", 2)
    assert look() == {"relay_refuses_us"}
    MinuteCount.objects.filter(name="relay_calls.refused").delete()
    assert look() == {"relay_refuses_us"}  # nobody knows yet
    counted("relay_calls.answered")
    assert look() == set()


def test_a_relay_that_is_away_for_long(look: Callable[[], set[str]]) -> None:
    for minutes_ago in range(3):
        counted("relay_calls.unavailable", 4, minutes_ago)
    assert look() == set()
    for minutes_ago in range(3, 6):
        counted("relay_calls.unavailable", 4, minutes_ago)
    assert look() == {"relay_unavailable"}
    MinuteCount.objects.filter(name="relay_calls.unavailable").delete()
    counted("relay_calls.unavailable", 4, minutes_ago=1)
    assert look() == {"relay_unavailable"}
    counted("relay_calls.answered")
    assert look() == set()


def test_a_relay_that_answers_in_between_is_not_away(look: Callable[[], set[str]]) -> None:
    for minutes_ago in range(6):
        counted("relay_calls.unavailable", 4, minutes_ago)
    counted("relay_calls.answered", 1, minutes_ago=2)
    assert look() == set()


def test_a_worker_that_is_gone(watch: Watch, look: Callable[[], set[str]]) -> None:
    MinuteCount.objects.all().delete()
    counted(names.DRAIN_RUNS, minutes_ago=4)
    assert look() == set()  # this process has not waited long enough itself
    watch._began -= 121
    assert look() == {"worker_gone"}
    counted(names.DRAIN_RUNS)
    assert look() == set()


def test_beat_that_is_gone(watch: Watch, look: Callable[[], set[str]]) -> None:
    assert look() == set()
    watch._beat_seen -= 121
    Scan.objects.create(here_since=timezone.now(), last_at=timezone.now())
    assert look() == set()  # the last release's beat holds no lease, and does its rounds
    Scan.objects.update(last_at=timezone.now() - timedelta(minutes=4))
    assert look() == {"beat_gone"}
    holder = lease.Holder(lease.BEAT)
    assert holder.take()
    assert look() == set()
    Lease.objects.update(expires_at=database_clock.now() - 1)
    assert look() == set()  # another one may take it over in a moment
    watch._beat_seen -= 121
    assert look() == {"beat_gone"}


def test_clocks_that_differ(look: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "connection", SimpleNamespace(vendor="postgresql"))
    host = socket.gethostname()[:80]
    for ahead, expected in ((4.0, False), (7.0, True), (4.0, True), (-1.0, False), (-6.0, True)):
        monkeypatch.setattr(database_clock, "now", lambda ahead=ahead: time.time() - ahead)
        assert look() == ({f"clock_differs:{host}"} if expected else set()), ahead
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    monkeypatch.setattr(database_clock, "now", time.time)
    assert look() == {f"clock_differs:{host}"}  # of another server it knows nothing


def test_a_log_that_grows(
    watch: Watch, look: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "LOG_DEEP_AT", 4)
    for number in range(5):
        get_log().append(NewEntry(MAIL, f"p{number}", b"x"))
    assert look() == set()
    monkeypatch.setattr(alerts, "GROWING_FOR_S", 0.1)
    time.sleep(0.15)
    assert look() == set()  # deep, but not deeper
    time.sleep(0.15)
    get_log().append(NewEntry(MAIL, "more", b"x"))
    assert look() == {"mail_log_growing"}
    entries = get_log().claim(MAIL, "test", 3, 30)
    get_log().acknowledge([entry.id for entry in entries])
    assert look() == {"mail_log_growing"}  # less, but not half
    entries = get_log().claim(MAIL, "test", 2, 30)
    get_log().acknowledge([entry.id for entry in entries])
    assert look() == set()


@pytest.mark.parametrize(
    ("name", "limit", "code"),
    [
        (names.CREDENTIALS_REFUSED, alerts.CREDENTIALS_REFUSED_AT, "credentials_refused"),
        (names.GATEWAY_REFUSED, alerts.GATEWAY_REFUSED_AT, "gateway_refuses"),
        (names.PROOF_FAILURES, alerts.PROOF_FAILURES_AT, "proof_failures"),
    ],
)
def test_failures_in_numbers(
    name: str, limit: int, code: str, look: Callable[[], set[str]]
) -> None:
    counted(name, limit - 1, minutes_ago=8)
    assert look() == set()
    counted(name, 1, minutes_ago=1)
    assert look() == {code}
    MinuteCount.objects.filter(name=name).delete()
    assert look() == set()


def test_a_rule_that_fails_stops_no_other(
    look: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> alerts.Verdict:
        raise RuntimeError("no")

    monkeypatch.setattr(alerts, "relay_refuses_us", fails)
    counted(names.PROOF_FAILURES, 50)
    assert look() == {"proof_failures"}
