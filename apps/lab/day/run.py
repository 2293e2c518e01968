"""A simulated day: phones join, Exchange forgets some subscriptions now and then, all recover."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from apps.lab.day.outcome import Dropped, Outcome
from apps.lab.phone import Push
from apps.lab.phone.fleet import FleetPhone, PhoneFleet
from apps.lab.population import TIMEOUT_S, add_mailboxes, await_joined, deliver, session
from apps.lab.stand import waiting
from apps.lab.stand.stand import Layout, Stand

LAYOUT = Layout(postgres=True, redis=True)
STATUS_FREQUENCY_MINUTES = 30
ROUNDS = 8
WAVE = 100
JOIN_S = 60.0
RING_S = 60.0
# The last ones must have time to be found, at the end of the day.
LAST_DROP = 0.85
OVERTIME_HOURS = 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much; `share` of all subscriptions is dropped, `hours` go by `clock_scale` times fast."""

    subscriptions: int = 2000
    share: float = 0.1
    hours: float = 5.0
    clock_scale: float = 80.0


class Day:
    """One run on a stand that has started."""

    def __init__(self, stand: Stand, seed: int, size: Size, say: Callable[[str], None]) -> None:
        self._stand, self._seed, self._size, self._say = stand, seed, size, say
        self._control = stand.exchange_control
        self._http = session()
        self._dropped: dict[str, Dropped] = {}
        self._fleet = PhoneFleet(
            stand.link_address,
            stand.facts.api_token,
            stand.apns_control,
            app_id=stand.facts.app_id,
            clock_scale=stand.clock_scale,
            on_push=self._take,
        )

    def run(self) -> Outcome:
        """Raises NotLetIn when the phones could not join."""
        count = self._size.subscriptions
        self._fleet.start()
        try:
            self._say(f"{count} phones join ...")
            accounts = add_mailboxes(self._control, self._stand.ews_url, count)
            # In waves, as a roll-out goes: a phone that joins asks every second what became of it.
            for first in range(0, count, WAVE):
                wave = accounts[first : first + WAVE]
                self._fleet.add([(account, "phone") for account in wave])
                await_joined(self._fleet, JOIN_S)
            self._say(f"A day of {self._size.hours:g} hours begins ...")
            began = self._now()
            self._pass_the_day(began)
            self._await_repairs()
            self._ring()
            needless = self._needless(began)
        finally:
            self._fleet.stop()
        return Outcome(
            subscriptions=count,
            dropped=list(self._dropped.values()),
            status_frequency_minutes=STATUS_FREQUENCY_MINUTES,
            clock_scale=self._stand.clock_scale,
            needless=needless,
        )

    def _now(self) -> float:
        """The simulated Unix time."""
        origin = self._stand.clock_origin
        return origin + (time.time() - origin) * self._stand.clock_scale

    def _take(self, phone: FleetPhone, push: Push) -> None:
        """In the fleet's thread: a wake-up of a phone whose subscription was dropped."""
        dropped = self._dropped.get(phone.account.email)
        if push.kind == "wakeup" and dropped is not None and dropped.woken_at is None:
            dropped.woken_at = self._now()

    def _pass_the_day(self, began: float) -> None:
        seconds = self._size.hours * 3600
        target = round(self._size.share * self._size.subscriptions)
        for number in range(ROUNDS):
            self._sleep_until(began + seconds * LAST_DROP * (number + 0.5) / ROUNDS)
            due = target * (number + 1) // ROUNDS - len(self._dropped)
            self._drop(due, number)
        self._sleep_until(began + seconds)

    def _drop(self, count: int, number: int) -> None:
        """Let Exchange forget so many; a mailbox is met once a day at most."""
        healthy = [held for held in self._held() if held["mailbox"] not in self._dropped]
        # Spread over the whole deployment: one in so many, in the order of joining.
        step = max(1, len(healthy) // max(1, count))
        for held in healthy[(self._seed + number) % step :: step][:count]:
            self._dropped[held["mailbox"]] = Dropped(held["id"], held["mailbox"], self._now())
            if not self._lose(held["id"]):
                del self._dropped[held["mailbox"]]  # replaced since it was listed

    def _await_repairs(self) -> None:
        deadline = OVERTIME_HOURS * 3600 / self._stand.clock_scale
        with suppress(waiting.TookTooLong):
            waiting.until("repairs", self._all_repaired, max(deadline, 10.0))

    def _all_repaired(self) -> bool:
        for held in self._held():
            dropped = self._dropped.get(held["mailbox"])
            if dropped is not None and held["id"] != dropped.subscription_id:
                dropped.repaired_at = dropped.repaired_at or held["made_at"]
        time.sleep(0.5)
        return all(one.repaired_at is not None for one in self._dropped.values())

    def _ring(self) -> None:
        """The proof that they live: a mail to each is announced."""
        subject = f"Are you there? {secrets.token_hex(3)}"
        for mailbox in self._dropped:
            deliver(self._http, self._control, mailbox, subject)
        phones = [phone for phone in self._fleet.phones if phone.account.email in self._dropped]
        with suppress(waiting.TookTooLong):
            waiting.until("rings", lambda: all(_rang(p, subject) for p in phones), RING_S)
        for phone in phones:
            self._dropped[phone.account.email].rang = _rang(phone, subject)

    def _needless(self, began: float) -> int:
        made = {held["mailbox"] for held in self._held() if held["made_at"] > began}
        return len(made - self._dropped.keys())

    def _held(self) -> Sequence[dict[str, Any]]:
        answer = self._http.get(f"{self._control}/lab/subscriptions", timeout=TIMEOUT_S)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["subscriptions"]
        return found

    def _lose(self, subscription_id: str) -> bool:
        """Whether Exchange still had it."""
        body = {"subscription_id": subscription_id}
        url = f"{self._control}/lab/subscriptions/lose"
        return self._http.post(url, json=body, timeout=TIMEOUT_S).ok

    def _sleep_until(self, simulated: float) -> None:
        time.sleep(max(0.0, (simulated - self._now()) / self._stand.clock_scale))


def _rang(phone: FleetPhone, subject: str) -> bool:
    return any(push.kind == "announcement" and push.body == subject for push in list(phone.pushes))
