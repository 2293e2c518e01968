"""An upgrade from the last release, server by server, while mail comes in and phones check in."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from apps.lab.phone import EnsClient, Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.postgres import PostgresMissing
from apps.lab.stand.redis_servers import RedisMissing
from apps.lab.stand.side import ROOT
from apps.lab.stand.stand import Layout
from apps.lab.stand.waiting import until
from ens_project import __version__
from tests.e2e import last_release
from tests.e2e.last_release import StandOf010
from tests.e2e.road import Road

MAIL_EVERY_S = 0.1
CALL_EVERY_S = 0.25
# What the relay's restart holds up is sent within a minute.
ALL_ANNOUNCED_S = 75.0
JOINED_S = 40.0
RINGS_S = 30.0
FIRST_KEY = "/MailNotificationService/api/ens/publickey"
# Each pair of releases meets: new web and old worker, old web and new worker, both relays with
# workers of both.
ORDER = ("web", "worker", "relay", "worker-2", "web-2", "beat")
# Whatever a process had in flight when it was asked to end.
REPEATED_AT_MOST = 20

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    """Release 0.1.0 on PostgreSQL and Redis, two servers of each kind."""
    release = last_release.commit()
    if release is None:
        pytest.skip("the last release is not in this clone's history")
    StandOf010.root = last_release.unpack(release, tmp_path / "release")
    layout = Layout(postgres=True, redis=True, webs=2, workers=2)
    try:
        stand = StandOf010(tmp_path / "stand", layout=layout)
    except (PostgresMissing, RedisMissing) as error:
        pytest.skip(str(error))
    with stand:
        yield Road(stand)


def _join(phone: Phone) -> Phone:
    """As an app of 0.1.0's time does: it checks in every second until it is let in."""
    phone.subscribe()

    def joined() -> bool:
        return phone.check_in().state != "joining"

    until(f"{phone.name} to join", joined, JOINED_S)
    assert phone.state == "active", phone.code
    return phone


class _Mail(threading.Thread):
    """Mail for the users by turns, until `end`."""

    def __init__(self, road: Road, users: list[DemoUser]) -> None:
        super().__init__(name="mail")
        self.sent: dict[str, list[str]] = {user.address: [] for user in users}
        self._road, self._users = road, users
        self._over = threading.Event()

    def run(self) -> None:
        began, number = time.monotonic(), 0
        while not self._over.wait(max(0.0, began + number * MAIL_EVERY_S - time.monotonic())):
            user = self._users[number % len(self._users)]
            self._road.exchange.deliver(user, f"Mail {number}")
            self.sent[user.address].append(f"Mail {number}")
            number += 1

    def end(self) -> int:
        """Stop; how many there were."""
        self._over.set()
        self.join()
        return sum(map(len, self.sent.values()))


class _Calls(threading.Thread):
    """What phones call all day, until `end`; whatever they are not answered is kept."""

    def __init__(self, road: Road, phones: list[Phone]) -> None:
        super().__init__(name="calls")
        self._client = EnsClient(road.stand.link_address, road.stand.facts.api_token)
        self._phones = phones
        self._over = threading.Event()
        self.said: Counter[str] = Counter()

    def run(self) -> None:
        number = 0
        while not self._over.wait(CALL_EVERY_S):
            phone = self._phones[number % len(self._phones)]
            number += 1
            try:
                self._client.public_key()
                self.said[phone.check_in().do] += 1
            except Exception as error:
                self.said[f"{type(error).__name__}: {error}"] += 1

    def end(self) -> Counter[str]:
        """Stop; the answers, counted."""
        self._over.set()
        self.join()
        return self.said


def test_server_by_server_nothing_is_lost_and_no_phone_notices(road: Road) -> None:
    stand, users = road.stand, [road.user("anna") for _ in range(3)]
    phones = {user.address: _join(road.phone(user, f"old {user.address}")) for user in users}
    held = {user.address: road.exchange.subscriptions(user) for user in users}
    assert _version(stand.link_address) == "0.1.0"
    mail, calls = _Mail(road, users), _Calls(road, list(phones.values()))
    mail.start()
    calls.start()

    stand.move_to(ROOT)
    stand.manage(["migrate", "--verbosity", "0"])
    stand.manage_relay(["migrate", "--verbosity", "0"])
    _rings_soon(road, users[0], phones, "the old code on the new schema")
    newcomers = []
    for name in ORDER:
        stand.restart(name)
        _rings_soon(road, users[0], phones, f"{name} is new")
        if name in ("web", "relay"):
            user = road.user("ben")
            newcomers.append((user, _join(road.phone(user, f"during the upgrade: {name}"))))
    versions = {_version(stand.link_address) for _ in range(4)}
    late = road.user("clara")
    newcomers.append((late, _join(road.phone(late, "after the upgrade"))))
    number = mail.end()
    said = calls.end()

    assert versions == {__version__}
    assert set(said) == {"nothing"} and said["nothing"] > 20, said
    assert number > 50
    for user in users:
        phone, subjects = phones[user.address], mail.sent[user.address]
        until(
            f"every mail on {phone.name}",
            partial(_complete, road, phone, subjects),
            ALL_ANNOUNCED_S,
        )
    for user, phone in newcomers:
        road.exchange.deliver(user, "Hello")
        road.rings(phone, "Hello")
    # Nobody joined anew: Exchange holds the same subscriptions as before.
    assert {user.address: _ids(road.exchange.subscriptions(user)) for user in users} == {
        address: _ids(found) for address, found in held.items()
    }
    road.quiet()
    rung = sum(len(road.subjects(phone)) for phone in phones.values())
    repeated = rung - number - len(ORDER) - 1
    plain = sum(len(road.plain_ones(phone)) for phone in phones.values())
    assert plain == 0
    assert not _errors(stand.logs)
    assert repeated <= REPEATED_AT_MOST


def _rings_soon(road: Road, user: DemoUser, phones: dict[str, Phone], subject: str) -> None:
    """Nothing waits for a second try, which comes after a minute."""
    road.exchange.deliver(user, subject)
    road.rings(phones[user.address], subject, RINGS_S)


def _version(link_address: str) -> str:
    return str(requests.get(f"{link_address}/alive", timeout=10).json()["version"])


def _errors(logs: Path) -> list[str]:
    """What a process of either release logged as an error."""
    ours = [log for name in ORDER for log in logs.glob(f"{name}.log")]
    assert len(ours) == len(ORDER)
    lines = [line for log in ours for line in log.read_text("utf-8").splitlines()]
    # The stand asks for the first key until it is there.
    lines = [line for line in lines if not line.endswith("Service Unavailable: " + FIRST_KEY)]
    return [line for line in lines if " ERROR " in line or "Traceback" in line]


def _ids(subscriptions: list[dict[str, object]]) -> set[object]:
    return {each["id"] for each in subscriptions}


def _complete(road: Road, phone: Phone, subjects: list[str]) -> bool:
    return set(subjects) <= set(road.subjects(phone))
