"""What the tests of the whole road share: new users, their phones, and what reaches these."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

from apps.lab.exchange import LabExchange
from apps.lab.exchange.server import in_thread
from apps.lab.phone import Phone, Push
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.lab import answers
from apps.lab.stand.stand import OG, Stand
from apps.lab.stand.waiting import until

# An announcement takes well below a second; a machine that is busy with other tests takes longer.
RING_S = 20.0
# How long to listen for what must not come. What Exchange said before has long been worked on, and
# every process of ENS has heard what is unwanted by now (a second, apps/eventlog/unwanted.py).
SILENCE_S = 1.5


class Exchange:
    """The remote control of a lab's Exchange (apps/lab/exchange/control.py)."""

    def __init__(self, control_url: str) -> None:
        self._base = f"{control_url}/lab"
        self._http = requests.Session()
        self._http.trust_env = False

    def add(self, user: DemoUser) -> None:
        domain, _, name = user.username.rpartition("\\")
        self._call(
            "POST",
            "mailboxes",
            address=user.address,
            name=user.name,
            password=user.password,
            username=name,
            domain=domain,
        )

    def deliver(self, to: DemoUser, subject: str, **more: Any) -> str:
        """A mail arrives; returns its item id."""
        mail = {"from_name": "Ben Carter", "from_address": "ben.carter@partner.example"} | more
        answer = self._call("POST", "deliver", to=to.address, subject=subject, **mail)
        return str(answer["item_id"])

    def items(self, user: DemoUser) -> list[dict[str, Any]]:
        """What lies in the inbox, newest first."""
        found: list[dict[str, Any]] = self._call("GET", f"mailboxes/{user.address}/items")["items"]
        return found

    def read(self, item_id: str) -> None:
        self._call("POST", "read", item_id=item_id)

    def move(self, item_id: str, folder: str) -> str:
        return str(self._call("POST", "move", item_id=item_id, folder=folder)["item_id"])

    def delete(self, item_id: str) -> None:
        self._call("POST", "delete", item_id=item_id)

    def grant(self, mailbox: DemoUser, reader: DemoUser, folder: str = "") -> None:
        more = {"folder": folder} if folder else {}
        self._call("POST", "rights", mailbox=mailbox.address, user=reader.address, **more)

    def set_password(self, user: DemoUser, password: str) -> None:
        self._call("POST", "password", address=user.address, password=password)

    def trouble(self, kind: str, user: DemoUser | None = None, **more: Any) -> None:
        """A fault that meets one user, or all without one; it ends with the test."""
        address = user.address if user else ""
        self._call("POST", "faults", **({"kind": kind, "seconds": 60, "address": address} | more))

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def fail_subscription(self, subscription_id: str) -> None:
        self._call("POST", "subscriptions/fail", subscription_id=subscription_id)

    def subscriptions(self, user: DemoUser) -> list[dict[str, Any]]:
        """What Exchange holds for the user's mailbox."""
        found = self._call("GET", "subscriptions")["subscriptions"]
        return [entry for entry in found if entry["mailbox"] == user.address]

    def held(self) -> dict[str, int]:
        """How many subscriptions Exchange holds, by mailbox."""
        found: dict[str, int] = self._call("GET", "subscriptions")["by_mailbox"]
        return found

    def calls(self, operation: str = "") -> int:
        """How many operations it was asked for: of one kind, or all."""
        found: dict[str, int] = self._counters()["calls"]
        return found.get(operation, 0) if operation else sum(found.values())

    def connections(self) -> int:
        """How many connections it ever took a request on."""
        return int(self._counters()["connections"]["total"])

    def refused_logins(self, user: DemoUser) -> int:
        """How many requests with a wrong password for this user it had."""
        return int(self._counters()["unauthorized"].get(user.address, 0))

    def lock_outs(self, user: DemoUser) -> int:
        """How often the user's account was locked, or a request found it locked."""
        counters = self._counters()
        return sum(
            int(counters[name].get(user.address, 0))
            for name in ("lockouts", "refused_while_locked")
        )

    def _counters(self) -> dict[str, Any]:
        return self._call("GET", "counters")

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.request(
            method, f"{self._base}/{path}", json=body if method == "POST" else None, timeout=20
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class Road:
    """One stand, seen from both ends: mail is put into Exchange, pushes are seen at APNs."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.exchange = Exchange(stand.exchange_control)

    def user(self, name: str = "user", at: Exchange | None = None) -> DemoUser:
        """A new user with a mailbox that nobody else has, at the stand's Exchange or another."""
        account = f"{name}-{secrets.token_hex(4)}"
        user = DemoUser(
            name.title(), f"{account}@example.com", f"EXAMPLE\\{account}", secrets.token_hex(8)
        )
        (at or self.exchange).add(user)
        return user

    def phone(self, user: DemoUser, name: str = "phone", **options: Any) -> Phone:
        return self.stand.phone(self.stand.account(user), name, **options)

    def joined(self, user: DemoUser, name: str = "phone", **options: Any) -> Phone:
        """A phone of the user's that was let in."""
        phone = self.phone(user, name, **options)
        assert phone.join() == "active", phone.code
        return phone

    def apns_fault(self, fault: dict[str, Any]) -> None:
        """Order a fault of the lab's APNs (apps/lab/apns/faults.py)."""
        url = f"{self.stand.apns_control}/faults"
        requests.post(url, json=fault, timeout=10).raise_for_status()

    def web_is_back(self) -> None:
        """Wait until ENS's web process answers again."""
        self.stand.wait_for("web", answers(f"{self.stand.link_address}/alive"))

    def pushes(self, phone: Phone) -> list[Push]:
        """Everything that ever reached the phone."""
        return [phone.checked(push) for push in phone.service.pushes(phone.token, 0)]

    def announcements(self, phone: Phone) -> list[Push]:
        return [push for push in self.pushes(phone) if push.kind == "announcement"]

    def subjects(self, phone: Phone) -> list[str]:
        return [push.body for push in self.announcements(phone)]

    def rings(self, phone: Phone, subject: str, seconds: float = RING_S) -> Push:
        """Wait until a mail is announced on the phone; returns that push."""
        return self.gets(phone, lambda push: push.body == subject, f"«{subject}»", seconds)

    def plain_ones(self, phone: Phone) -> list[Push]:
        """The announcements without sender and subject that reached the phone."""
        every = self.announcements(phone)
        return [push for push in every if (push.title, push.body) == ("New mail", "")]

    def plain(self, phone: Phone, number: int, seconds: float = RING_S) -> Push:
        """Wait until the phone has had so many announcements without sender and subject."""
        until(
            f"{number} plain announcements on {phone.name}",
            lambda: len(self.plain_ones(phone)) == number,
            seconds,
        )
        return self.plain_ones(phone)[-1]

    def badge(self, phone: Phone, number: int, seconds: float = RING_S) -> None:
        """Wait until the badge is this number."""

        def shown() -> bool:
            badges = [push.badge for push in self.pushes(phone) if push.badge is not None]
            return badges[-1:] == [number]

        until(f"badge {number} on {phone.name}", shown, seconds)

    def gets(
        self, phone: Phone, wanted: Callable[[Push], bool], what: str, seconds: float = RING_S
    ) -> Push:
        """Wait for a push of that kind; what came before counts too."""
        deadline = time.monotonic() + seconds
        seen: list[Push] = []
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"{phone.name} did not get {what} within {seconds:g} s"
            arrived = phone.service.pushes(phone.token, len(seen), min(left, 5.0))
            seen += [phone.checked(push) for push in arrived]
            for push in seen:
                if wanted(push):
                    return push

    def quiet(self) -> None:
        """Give what must not come the time to come."""
        time.sleep(SILENCE_S)

    def renews(self, phone: Phone) -> None:
        """Wait until ENS asks for the phone's credentials, bring them, and wait for the outcome."""
        until("a wish for credentials", lambda: phone.check_in().do == "send_credentials", RING_S)
        phone.check_in(credentials=True)
        until("nothing more to do", lambda: phone.check_in().do == "nothing", RING_S)

    def holds(self, user: DemoUser, number: int, seconds: float = RING_S) -> None:
        """Wait until Exchange holds so many subscriptions on the user's mailbox.

        It hears that one is over when it next calls. So that it does, mail comes in that some rule
        has marked as read, which nobody is told of.
        """
        calls = 0

        def so_many() -> bool:
            nonlocal calls
            calls += 1
            if len(self.exchange.subscriptions(user)) == number:
                return True
            if calls % 20 == 0:
                self.exchange.deliver(user, "Nobody hears of it", is_read=True)
            return False

        until(f"{number} subscriptions at Exchange", so_many, seconds)


@contextmanager
def second_mail_server(road: Road) -> Iterator[tuple[str, Exchange]]:
    """Another Exchange, listed as a mail system of its own: its EWS URL and remote control."""
    with in_thread(LabExchange()) as server:
        host = urlsplit(server.url).netloc
        road.stand.manage(
            [
                *("ens_mail_system", "add", "--og", OG, "--name", secrets.token_hex(4)),
                *("--host", host, "--ca-file", str(server.ca_file)),
            ]
        )
        yield server.url, Exchange(server.control)


def all_once(values: Iterable[str]) -> bool:
    """Whether no value stands twice."""
    found = list(values)
    return len(found) == len(set(found))
