"""Counters: several processes add up, and a total never falls."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection

from apps.history import buffer as buffer_module
from apps.history import counters
from apps.history.buffer import Buffer, buffer
from apps.history.models import MinuteCount

pytestmark = pytest.mark.django_db(transaction=True)

EVER = datetime(2020, 1, 1, tzinfo=UTC)


def sum_of(name: str) -> int:
    return sum(n for _, n in counters.minutes(name, EVER))


def test_counts_are_summed_per_minute() -> None:
    for _ in range(3):
        counters.count("pushes", label="accepted")
    counters.count("pushes", 5, label="accepted")
    counters.count("joins")
    buffer.flush()
    counters.count("joins", 2)
    buffer.flush()
    assert sum_of("pushes.accepted") == 8
    assert sum_of("joins") == 3
    minute, _ = counters.minutes("joins", EVER)[0]
    assert abs(minute.timestamp() - time.time()) < 125
    assert counters.recent("pushes", timedelta(minutes=2)) == 8
    assert counters.minutes("joins", datetime.now(UTC) + timedelta(minutes=2)) == []


def test_a_label_from_a_stranger_is_no_name() -> None:
    counters.count("fetch_errors", label="anna@example.com")
    counters.count("fetch_errors", label="x" * 51)
    buffer.flush()
    assert counters.totals() == {"fetch_errors.other": 2}


def test_processes_that_write_at_once_add_up() -> None:
    def process() -> None:
        own = Buffer()
        for _ in range(5):
            own.add_count("joins", 1)
            own.add_count("pushes.accepted", 2)
            own.flush()
        connection.close()

    threads = [threading.Thread(target=process) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum_of("joins"), sum_of("pushes.accepted")) == (30, 60)


def test_durations_fall_into_buckets() -> None:
    for milliseconds in (-5.0, 100.0, 101.0, 9e9):
        counters.observe("latency", milliseconds)
    buffer.flush()
    totals = counters.totals()
    assert totals["latency.100"] == 2
    assert totals["latency.250"] == 1
    assert totals["latency.inf"] == 1
    assert totals["latency.sum"] == 9_000_000_201


def test_old_minutes_are_folded_and_totals_stay() -> None:
    MinuteCount.objects.create(name="joins", minute=5, n=7)
    MinuteCount.objects.create(name="joins", minute=6, n=1)
    counters.count("joins")
    buffer.flush()
    for _ in range(2):
        counters.fold()
        assert counters.totals() == {"joins": 9}
        assert MinuteCount.objects.filter(minute__in=(5, 6)).count() == 0
        assert MinuteCount.objects.get(minute=0).n == 8
    assert sum_of("joins") == 1


def test_what_the_database_does_not_take_is_written_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_counts: object) -> None:
        raise OperationalError("away")

    counters.count("joins")
    with monkeypatch.context() as patch:
        patch.setattr(buffer_module, "_write_counts", fails)
        with pytest.raises(OperationalError):
            buffer.flush()
    counters.count("joins")
    buffer.flush()
    assert sum_of("joins") == 2
