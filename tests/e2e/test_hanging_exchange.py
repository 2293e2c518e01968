"""One mail server that hangs on every call is no trouble for the users of another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.lab.phone import Account, Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import Stand
from apps.lab.stand.waiting import until
from tests.e2e.road import Exchange, Road, second_mail_server

pytestmark = pytest.mark.timeout(360)

MAILBOXES = 6
# Long enough for more than one of the drain's runs (apps/announce/tasks.py), of 20 s each.
MEASURED_S = 27.0
EVERY_S = 0.25
# The promise is 1.2 times. Measured alone on two cores, four runs: 87 ms before and 74 ms
# meanwhile, 103 and 66, 89 and 97, 96 and 102. Machines that tests share are noisy by about as
# much as a mail takes; who measures too much there measures once more.
FACTOR = 1.2
NOISE_S = 0.1
MEASUREMENTS = 2
# A breaker that has opened tries again by itself within this (apps/exchange/limits.py).
BREAKER_CLOSED_S = 20.0
# A call that hangs is given up after 12 s, and a mail of that time is told without its details.
ALL_TOLD_S = 45.0


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    """A stand of its own: what hangs here would keep its worker from others' mail."""
    with Stand(tmp_path / "stand") as stand:
        yield Road(stand)


class System:
    """The users of one mail server, a phone each."""

    def __init__(self, road: Road, exchange: Exchange, ews_url: str) -> None:
        self.road, self.exchange = road, exchange
        self.sent: list[tuple[Phone, str, float]] = []
        self._members: list[tuple[DemoUser, Phone]] = []
        for number in range(MAILBOXES):
            user = road.user(f"user{number}", exchange)
            account = Account(user.address, user.username, user.password, ews_url)
            phone = road.stand.phone(account, f"phone {number}")
            assert phone.join() == "active", phone.code
            self._members.append((user, phone))

    def deliver(self) -> None:
        number = len(self.sent)
        user, phone = self._members[number % MAILBOXES]
        self.sent.append((phone, f"Mail {number}", time.time()))
        self.exchange.deliver(user, f"Mail {number}")

    def announced(self) -> int:
        return sum(len(self.road.announcements(phone)) for _, phone in self._members)

    def delays(self, first: int, end: int) -> list[float]:
        """How long some of its mails took to APNs, in seconds; all must have rung by subject."""
        rung = {
            (phone.token, push.body): push.at
            for _, phone in self._members
            for push in self.road.announcements(phone)
        }
        return [
            rung[phone.token, subject] - began for phone, subject, began in self.sent[first:end]
        ]


def test_the_other_ones_mail_is_as_fast_as_before(road: Road) -> None:
    told: list[str] = []
    with second_mail_server(road) as (url, exchange):
        healthy = System(road, road.exchange, road.stand.ews_url)
        hanging = System(road, exchange, url)
        for number in range(MEASUREMENTS):
            if number:
                exchange.clear_faults()
                time.sleep(BREAKER_CLOSED_S)
            before, meanwhile = _measure(road, healthy, hanging, exchange)
            told.append(f"p95 {before * 1000:.0f} ms before, {meanwhile * 1000:.0f} ms meanwhile")
            if meanwhile <= FACTOR * before + NOISE_S:
                return
    pytest.fail("; ".join(told))


def _measure(
    road: Road, healthy: System, hanging: System, exchange: Exchange
) -> tuple[float, float]:
    """The p95 of the healthy one's mails, in seconds: before the other one hangs, and meanwhile."""
    first, plain_before = len(healthy.sent), _plain(road, hanging)
    _traffic(healthy, hanging)
    middle = len(healthy.sent)
    until("every mail of before", lambda: hanging.announced() == middle, ALL_TOLD_S)
    assert len(hanging.delays(first, middle)) == middle - first
    exchange.trouble("hang", seconds=600)
    _traffic(healthy, hanging)
    end = len(healthy.sent)
    for system in (healthy, hanging):
        until("every mail", lambda system=system: system.announced() >= end, ALL_TOLD_S)
    # It did hang: nothing could be said of its mails but that they are there.
    assert _plain(road, hanging) - plain_before == end - middle
    assert (healthy.announced(), hanging.announced()) == (end, end)
    return _p95(healthy.delays(first, middle)), _p95(healthy.delays(middle, end))


def _plain(road: Road, system: System) -> int:
    phones = {phone.token: phone for phone, _, _ in system.sent}
    return sum(len(road.plain_ones(phone)) for phone in phones.values())


def _traffic(*systems: System) -> None:
    """The same for all, mail by mail."""
    began = time.monotonic()
    for number in range(int(MEASURED_S / EVERY_S)):
        time.sleep(max(0.0, began + number * EVERY_S - time.monotonic()))
        for system in systems:
            system.deliver()


def _p95(delays: list[float]) -> float:
    return statistics.quantiles(delays, n=20)[-1]
