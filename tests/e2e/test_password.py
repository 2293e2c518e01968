"""A changed password: one wrong try at Exchange, however many mails and phones there are.

The lab's directory locks an account after five wrong tries (apps/lab/exchange/lockout.py); here are
more phones than that, each with the old password.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from apps.lab.exchange.lockout import TRIES
from apps.lab.phone import Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.waiting import until
from tests.e2e.road import RING_S, Road

pytestmark = pytest.mark.timeout(150)

NEW = "the new one"
MAILS = 6
# Wake-ups are spread over 20 s (apps/subscriptions/wakeups.py).
WAKE_UP_S = 45.0


@pytest.fixture
def user(road: Road) -> DemoUser:
    return road.user("anna")


@pytest.fixture
def phones(road: Road, user: DemoUser) -> list[Phone]:
    """More than an account may have wrong tries."""
    return [road.joined(user, f"phone {number}") for number in range(TRIES + 1)]


def test_a_changed_password_is_one_refusal_until_a_phone_brings_the_new_one(
    road: Road, user: DemoUser, phones: list[Phone]
) -> None:
    first, second, *others = phones
    (before,) = road.exchange.subscriptions(user)
    road.exchange.set_password(user, NEW)
    # The mail that found it out is told of as far as it can be, for all were proved until then.
    road.exchange.deliver(user, "Found it out")
    for phone in phones:
        road.plain(phone, 1)
    assert road.exchange.refused_logins(user) == 1
    for number in range(MAILS):
        road.exchange.deliver(user, f"Missed {number}")
    for phone in phones:
        road.gets(phone, lambda push: push.kind == "wakeup", "a wake-up", WAKE_UP_S)
    # Silent until proved.
    for phone in phones:
        assert road.subjects(phone) == [""]

    # The first good check-in mends it, and brings what its phone has missed.
    _learns_the_new_password(first)
    road.renews(first)
    _has_caught_up(road, first)
    road.exchange.deliver(user, "Told again")
    road.rings(first, "Told again")
    # Exchange hears at its next call that the old subscription is over.
    road.holds(user, 1)
    assert road.exchange.subscriptions(user)[0]["id"] != before["id"]

    # The others are silent still, and whoever has only the old password stays so.
    _bring_the_old_one(others)
    road.exchange.deliver(user, "For the first alone")
    road.rings(first, "For the first alone")
    for phone in (second, *others):
        assert road.subjects(phone) == [""]
    # Its own proof lets the second one hear all that it has missed, and nobody else.
    told = road.subjects(first)
    _learns_the_new_password(second)
    second.check_in(credentials=True)
    road.rings(second, "For the first alone")
    _has_caught_up(road, second)
    until("nothing more to do", lambda: second.check_in().do == "nothing", RING_S)
    road.exchange.deliver(user, "For the proved ones")
    for phone in (first, second):
        road.rings(phone, "For the proved ones")
    road.quiet()

    assert road.subjects(first) == [*told, "For the proved ones"]
    missed = {f"Missed {number}" for number in range(MAILS)}
    everything = {"", *missed, "Told again", "For the first alone", "For the proved ones"}
    for phone in (first, second):
        assert len(road.subjects(phone)) == len(everything)
        assert set(road.subjects(phone)) == everything
    for phone in others:
        assert road.subjects(phone) == [""]
    assert len(road.exchange.subscriptions(user)) == 1
    assert road.exchange.refused_logins(user) == 1
    assert road.exchange.lock_outs(user) == 0


def test_all_phones_with_the_old_password_at_once_are_one_refusal(
    road: Road, user: DemoUser, phones: list[Phone]
) -> None:
    road.exchange.set_password(user, NEW)
    _bring_the_old_one(phones)
    assert road.exchange.refused_logins(user) == 1
    road.exchange.deliver(user, "For nobody")
    road.quiet()
    assert [road.subjects(phone) for phone in phones] == [[]] * len(phones)
    assert road.exchange.refused_logins(user) == 1

    phone = phones[0]
    _learns_the_new_password(phone)
    assert phone.join() == "active", phone.code
    road.quiet()
    road.exchange.deliver(user, "Told again")
    road.rings(phone, "Told again")
    assert road.exchange.lock_outs(user) == 0


def _learns_the_new_password(phone: Phone) -> None:
    phone.account = replace(phone.account, password=NEW)


def _has_caught_up(road: Road, phone: Phone) -> None:
    for number in range(MAILS):
        road.rings(phone, f"Missed {number}")


def _bring_the_old_one(phones: list[Phone]) -> None:
    """All at the same moment; each is refused."""
    with ThreadPoolExecutor(len(phones)) as pool:
        list(pool.map(lambda phone: phone.check_in(credentials=True), phones))
    for phone in phones:
        until(f"{phone.name} is refused", _is_refused(phone), RING_S)


def _is_refused(phone: Phone) -> Callable[[], bool]:
    return lambda: (phone.check_in().state, phone.code) == ("refused", "credentials_refused")
