"""The main job once: mails arrive at the lab's Exchange, and every phone of their user rings.

What is measured: from the moment Exchange has the mail to the moment APNs or FCM has taken the
push, both by this machine's clock; and the CPU time of ENS's own processes between the first mail
and the last announcement, idle polling included.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests

from apps.lab.announced import Mail, first_arrivals
from apps.lab.phone import Phone
from apps.lab.stand import waiting
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.stand import Stand

RATE_PER_S = 20.0
JOIN_S = 60.0
ANNOUNCE_S = 60.0
# After the last expected announcement, how long to listen for ones too many.
AFTERMATH_S = 2.0
USERS = 4


class DemoFailed(Exception):
    """The demo could not even begin; the message says why."""


@dataclass
class Outcome:
    """What came of it; latencies in seconds, one for each mail and phone."""

    sent: int
    announced: int
    duplicates: int
    latencies: list[float] = field(repr=False)
    cpu_seconds: dict[str, float]

    @property
    def lost(self) -> int:
        """Mails that were not announced on every phone of their user."""
        return self.sent - self.announced

    def as_json(self) -> dict[str, Any]:
        """The figures as the demo prints them; times in milliseconds."""
        ordered = sorted(self.latencies)
        return {
            "sent": self.sent,
            "announced": self.announced,
            "duplicates": self.duplicates,
            "latency_ms": {
                "p50": _milliseconds(_percentile(ordered, 0.5)),
                "p95": _milliseconds(_percentile(ordered, 0.95)),
                "max": _milliseconds(_percentile(ordered, 1.0)),
            },
            "cpu_ms_per_mail": {
                name: _milliseconds(used / self.sent) for name, used in self.cpu_seconds.items()
            },
        }


def run(stand: Stand, mails: int) -> Outcome:
    """Send `mails` mails at a steady rate to the demo users and see what their phones get.

    Raises:
        DemoFailed: a phone was not let in.
    """
    users = stand.users[:USERS]
    phones = _join(stand, users)
    try:
        before = stand.cpu_seconds()
        sent = _send(stand, users, mails)
        _await_announcements(phones, sent)
        after = stand.cpu_seconds()
        time.sleep(AFTERMATH_S)
    finally:
        for owned in phones.values():
            for phone in owned:
                phone.switch_off()
    used = {name: after[name] - before[name] for name in after}
    return judge(_arrivals(stand, users, sent), phones, used)


def judge(
    mails: Sequence[Mail], phones: dict[str, list[Phone]], cpu_seconds: dict[str, float]
) -> Outcome:
    """Compare what was sent with what arrived at each phone."""
    announced_on: dict[str, int] = {}
    latencies: list[float] = []
    pushes = pairs = 0
    for user, owned in phones.items():
        expected = [mail for mail in mails if mail.user == user]
        for phone in owned:
            arrived = first_arrivals(phone.pushes, expected)
            pushes += sum(phone.screen.announced.values())
            pairs += len(arrived)
            for mail in expected:
                if mail.subject in arrived:
                    announced_on[mail.subject] = announced_on.get(mail.subject, 0) + 1
                    latencies.append(arrived[mail.subject] - mail.at)
    announced = sum(
        announced_on.get(mail.subject, 0) == len(phones[mail.user]) > 0 for mail in mails
    )
    return Outcome(len(mails), announced, pushes - pairs, latencies, cpu_seconds)


def _join(stand: Stand, users: Sequence[DemoUser]) -> dict[str, list[Phone]]:
    """Two phones for the first user, the second one an Android; one for each other; all let in."""
    phones: dict[str, list[Phone]] = {}
    for number, user in enumerate(users):
        names = ["first phone", "second phone"] if number == 0 else ["phone"]
        # Every other phone has a content key: its pushes are encrypted.
        phones[user.address] = [
            stand.phone(
                stand.account(user), name, encrypted=(number + each) % 2 == 0, android=each == 1
            )
            for each, name in enumerate(names)
        ]
    everyone = [phone for owned in phones.values() for phone in owned]
    for phone in everyone:
        phone.subscribe()
        phone.switch_on()
    try:
        waiting.until("phones", lambda: all(p.state != "joining" for p in everyone), JOIN_S)
    except waiting.TookTooLong:
        raise DemoFailed(f"not all phones were let in within {JOIN_S:g} seconds") from None
    refused = [phone for phone in everyone if phone.state != "active"]
    if refused:
        raise DemoFailed(f"a phone was not let in: {refused[0].state} {refused[0].code}")
    return phones


def _send(stand: Stand, users: Sequence[DemoUser], count: int) -> list[Mail]:
    mark = secrets.token_hex(3)
    sent = []
    began = time.monotonic()
    with _session() as http:
        for number in range(count):
            time.sleep(max(0.0, began + number / RATE_PER_S - time.monotonic()))
            mail = Mail(users[number % len(users)].address, f"Demo mail {mark}-{number + 1}")
            body = {
                "to": mail.user,
                "from_name": "Ben Carter",
                "from_address": "ben.carter@partner.example",
                "subject": mail.subject,
            }
            http.post(f"{stand.exchange_control}/lab/deliver", json=body).raise_for_status()
            sent.append(mail)
    return sent


def _await_announcements(phones: dict[str, list[Phone]], mails: Sequence[Mail]) -> None:
    """Wait until every phone has as many announced items as its user has mails, or too long."""
    expected = {user: sum(mail.user == user for mail in mails) for user in phones}
    deadline = time.monotonic() + ANNOUNCE_S
    for user, owned in phones.items():
        for phone in owned:
            enough = _has_announced(phone, expected[user])
            phone.wait_for(enough, max(0.0, deadline - time.monotonic()))


def _has_announced(phone: Phone, count: int) -> Any:
    return lambda: len(phone.screen.announced) >= count


def _arrivals(stand: Stand, users: Sequence[DemoUser], mails: Sequence[Mail]) -> list[Mail]:
    """The mails with the time at which Exchange had them."""
    at: dict[str, float] = {}
    with _session() as http:
        for user in users:
            answer = http.get(f"{stand.exchange_control}/lab/mailboxes/{user.address}/items")
            for item in answer.json()["items"]:
                at[item["subject"]] = datetime.fromisoformat(item["received_at"]).timestamp()
    return [Mail(mail.user, mail.subject, at[mail.subject]) for mail in mails]


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all values do not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
