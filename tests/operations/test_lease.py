"""One holder at a time, by the database's clock, whoever is stopped, late or sees another time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection

from apps.operations import database_clock, lease
from apps.operations.lease import Holder, standing
from apps.operations.models import Lease


@pytest.fixture
def two(db: None) -> tuple[Holder, Holder]:
    return Holder("test"), Holder("test")


def _runs_out() -> None:
    Lease.objects.update(expires_at=database_clock.now() - 0.001)


def test_the_first_has_it_and_renews_it(two: tuple[Holder, Holder]) -> None:
    first, second = two
    assert standing("test") is None
    assert first.take() and not second.take()
    assert first.held and not second.held
    before = standing("test")
    assert before is not None and before.holder == first.identity
    assert lease.LASTS_S - 2 < before.seconds_left <= lease.LASTS_S
    Lease.objects.update(expires_at=database_clock.now() + 1)
    assert first.take()
    after = standing("test")
    assert after is not None and after.seconds_left > lease.LASTS_S - 2


def test_it_is_taken_over_when_it_has_run_out(two: tuple[Holder, Holder]) -> None:
    first, second = two
    assert first.take()
    _runs_out()
    assert second.take() and not first.take()
    assert second.held and not first.held


def test_a_holder_that_was_stopped_knows_that_its_time_is_over(
    two: tuple[Holder, Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = two
    assert first.take()
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + lease.LASTS_S + 0.001)
    assert not first.held


def test_one_that_is_stopped_while_it_asks_believes_in_no_more_than_it_asked_for(
    two: tuple[Holder, Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between reading the clock and writing: meanwhile another one came."""
    first, second = two
    assert first.take()
    _runs_out()
    long_ago = database_clock.now() - 1
    assert second.take()
    monkeypatch.setattr(database_clock, "now", lambda: long_ago)
    assert not first.take() and not first.held


def test_this_servers_clock_is_not_asked(
    two: tuple[Holder, Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    assert first.take()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not second.take()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert not second.take() and first.take()


def test_a_database_clock_that_is_set_back_blocks_nobody(two: tuple[Holder, Holder]) -> None:
    first, second = two
    assert first.take()
    Lease.objects.update(expires_at=database_clock.now() + 3600)
    assert second.take()


def test_what_is_given_back_is_free_at_once(two: tuple[Holder, Holder]) -> None:
    first, second = two
    assert first.take()
    second.give_back()  # not its own
    assert first.take()
    first.give_back()
    assert not first.held and standing("test") is None
    assert second.take()


@pytest.fixture
def kept(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Holder, Holder]]:
    monkeypatch.setattr(lease, "_RENEWED_EVERY_S", 0.05)
    monkeypatch.setattr(lease, "_TRIED_EVERY_S", 0.05)
    two = Holder("test"), Holder("test")
    for each in two:
        each.keep()
    yield two
    for each in two:
        each.give_back()


def _until_one_has_it(holders: tuple[Holder, Holder]) -> Holder:
    deadline = time.monotonic() + 20
    while not any(each.held for each in holders):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return next(each for each in holders if each.held)


def test_threads_keep_it_and_hand_it_over(kept: tuple[Holder, Holder]) -> None:
    first = _until_one_has_it(kept)
    (second,) = [each for each in kept if each is not first]
    assert not second.held
    first.give_back()
    assert _until_one_has_it(kept) is second


def test_of_many_that_begin_at_once_one_has_it(transactional_db: None) -> None:
    holders = [Holder("test") for _ in range(8)]
    start = threading.Barrier(len(holders))

    def take(holder: Holder) -> None:
        try:
            start.wait(timeout=20)
            holder.take()
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(each,)) for each in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.held for each in holders) == 1
