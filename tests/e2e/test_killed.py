"""`kill -9` of every process of ENS in the middle of 200 mails: 200 are announced."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from apps.lab.phone import Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import Stand
from apps.lab.stand.waiting import until
from tests.e2e.road import Road

MAILS = 200
RATE_PER_S = 15.0
# When what is killed, in seconds after the first mail.
KILLS = (
    (1.0, "worker"),
    (2.5, "web"),
    (3.5, "relay"),
    (5.0, "worker"),
    (6.0, "beat"),
    (7.0, "web"),
    (8.5, "worker"),
    (8.6, "web"),
    (10.0, "web"),
    (10.5, "worker"),
)
# Exchange calls again after 30 s and then 60 s; what a dead worker held is free after 30 s.
ALL_ANNOUNCED_S = 140.0
# A kill between Apple's acceptance and its mark repeats what was in flight: one or two of 250.
REPEATED_AT_MOST = 20

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    """A stand of its own: what is killed here would be missed by others."""
    with Stand(tmp_path / "stand") as stand:
        yield Road(stand)


def test_200_mails_survive_kills_of_every_process(road: Road) -> None:
    users = [road.user("anna") for _ in range(4)]
    phones = {user.address: [road.joined(user, "first")] for user in users}
    phones[users[0].address].append(road.joined(users[0], "second"))
    killer = threading.Thread(target=_kill, args=(road.stand,))
    killer.start()
    sent = _send(road, users)
    killer.join()
    assert {road.stand.supervisor.starts(name) > 1 for _, name in KILLS} == {True}
    due = [(phone, sent[user.address]) for user in users for phone in phones[user.address]]
    began = time.monotonic()
    for phone, subjects in due:
        left = began + ALL_ANNOUNCED_S - time.monotonic()
        until(f"every mail on {phone.name}", partial(_complete, road, phone, subjects), left)
    road.quiet()
    repeated = sum(_repeats(road, phone, subjects) for phone, subjects in due)
    assert repeated <= REPEATED_AT_MOST


def _kill(stand: Stand) -> None:
    began = time.monotonic()
    for at, name in KILLS:
        time.sleep(max(0.0, began + at - time.monotonic()))
        stand.kill(name)


def _send(road: Road, users: list[DemoUser]) -> dict[str, list[str]]:
    sent: dict[str, list[str]] = {user.address: [] for user in users}
    began = time.monotonic()
    for number in range(MAILS):
        time.sleep(max(0.0, began + number / RATE_PER_S - time.monotonic()))
        user = users[number % len(users)]
        road.exchange.deliver(user, f"Mail {number}")
        sent[user.address].append(f"Mail {number}")
    return sent


def _complete(road: Road, phone: Phone, subjects: list[str]) -> bool:
    return set(subjects) <= set(road.subjects(phone))


def _repeats(road: Road, phone: Phone, subjects: list[str]) -> int:
    """How often a mail rang again; always in the place of its first announcement."""
    pushes = road.announcements(phone)
    by_subject: dict[str, set[str]] = {}
    for push in pushes:
        assert push.collapse_id == push.item
        by_subject.setdefault(push.body, set()).add(push.collapse_id)
    # Nothing took so long that it was announced without its subject.
    assert sorted(by_subject) == sorted(subjects)
    assert {len(ids) for ids in by_subject.values()} == {1}
    return sum(times - 1 for times in Counter(push.item for push in pushes).values())
