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
    for number in range(MAILS):
        road.exchange.deliver(user, f"Untold {number}")
    for phone in phones:
        road.plain(phone, MAILS)
    assert road.exchange.refused_logins(user) == 1
    for phone in phones:
        road.gets(phone, lambda push: push.kind == "wakeup", "a wake-up", WAKE_UP_S)

    # The first good check-in mends it.
    _learns_the_new_password(first)
    road.renews(first)
    road.quiet()
    road.exchange.deliver(user, "Told again")
    road.rings(first, "Told again")
    # Exchange hears at its next call that the old subscription is over.
    road.holds(user, 1)
    assert road.exchange.subscriptions(user)[0]["id"] != before["id"]

    # Nobody else is told what is in a mail, nor whoever still has the old password.
    for phone in (second, *others):
        road.plain(phone, MAILS + 1)
    _bring_the_old_one(others)
    road.exchange.deliver(user, "For the first alone")
    road.rings(first, "For the first alone")
    road.plain(second, MAILS + 2)
    _learns_the_new_password(second)
    second.check_in(credentials=True)
    until("a proof", lambda: second.check_in().do == "nothing", RING_S)
    road.quiet()  # «nothing» is also the answer while the proof is under way
    road.exchange.deliver(user, "For the proved ones")
    for phone in (first, second):
        road.rings(phone, "For the proved ones")
    road.quiet()

    content = ["Told again", "For the first alone", "For the proved ones"]
    assert [body for body in road.subjects(first) if body] == content
    assert [body for body in road.subjects(second) if body] == content[-1:]
    for phone in others:
        assert set(road.subjects(phone)) == {""}
        assert len(road.announcements(phone)) == MAILS + 1
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


def _bring_the_old_one(phones: list[Phone]) -> None:
    """All at the same moment; each is refused."""
    with ThreadPoolExecutor(len(phones)) as pool:
        list(pool.map(lambda phone: phone.check_in(credentials=True), phones))
    for phone in phones:
        until(f"{phone.name} is refused", _is_refused(phone), RING_S)


def _is_refused(phone: Phone) -> Callable[[], bool]:
    return lambda: (phone.check_in().state, phone.code) == ("refused", "credentials_refused")
