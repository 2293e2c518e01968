"""Two phones of one user that subscribe in the same instant: both ring, one subscription."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.lab.phone import Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.waiting import until
from tests.e2e.road import Road

TRIES = 100
JOIN_S = 60.0
ANNOUNCE_S = 30.0
# Enough that the second phone is never far behind the first, few enough for two cores.
TRIES_AT_ONCE = 4

pytestmark = pytest.mark.timeout(150)


def test_in_100_of_100_tries(road: Road) -> None:
    tries = [_twins(road) for _ in range(TRIES)]
    with ThreadPoolExecutor(TRIES_AT_ONCE) as pool:
        # The barrier lets both phones of a user go at once, each in its own thread.
        list(pool.map(lambda twins: _at_once(twins[1]), tries))
    phones = [phone for _, twins in tries for phone in twins]
    until("all phones let in", lambda: _all_in(phones), JOIN_S)

    for user, _ in tries:
        road.exchange.deliver(user, "For both")
    deadline = time.monotonic() + ANNOUNCE_S
    for phone in phones:
        road.rings(phone, "For both", max(0.1, deadline - time.monotonic()))

    # A subscription that lost was told so by now; this mail is what Exchange hears the answer to.
    road.quiet()
    for user, _ in tries:
        road.exchange.deliver(user, "Once more")
    deadline = time.monotonic() + ANNOUNCE_S
    for phone in phones:
        road.rings(phone, "Once more", max(0.1, deadline - time.monotonic()))
    held = road.exchange.held()
    assert [held.get(user.address, 0) for user, _ in tries] == [1] * TRIES
    assert [sorted(road.subjects(phone)) for phone in phones] == [["For both", "Once more"]] * (
        2 * TRIES
    )


def _twins(road: Road) -> tuple[DemoUser, tuple[Phone, Phone]]:
    user = road.user("twin")
    return user, (road.phone(user, "first"), road.phone(user, "second"))


def _at_once(twins: tuple[Phone, Phone]) -> None:
    barrier = threading.Barrier(len(twins))

    def subscribe(phone: Phone) -> None:
        barrier.wait(timeout=30)
        phone.subscribe()

    with ThreadPoolExecutor(len(twins)) as pool:
        list(pool.map(subscribe, twins))


def _all_in(phones: list[Phone]) -> bool:
    """Ask for those who were still joining; fail at once when one was refused."""
    for phone in phones:
        if phone.state == "joining":
            phone.check_in()
        assert phone.state in ("joining", "active"), f"{phone.name}: {phone.state} {phone.code}"
        if phone.state == "joining":
            return False
    return True
