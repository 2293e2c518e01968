"""One storm: Exchange forgets all subscriptions, phones are woken, all are made anew."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from apps.lab.announced import Mail
from apps.lab.phone import Push
from apps.lab.phone.client import Device
from apps.lab.phone.fleet import FleetPhone, PhoneFleet
from apps.lab.population import TIMEOUT_S, add_mailboxes, session
from apps.lab.stand import waiting
from apps.lab.stand.stand import OG, Layout, Stand
from apps.lab.storm.neighbours import Neighbours
from apps.lab.storm.outcome import Outcome

LAYOUT = Layout(postgres=True, redis=True)
# The lost ones' StatusFrequency: two minutes of silence tell that they are lost.
STATUS_FREQUENCY_MINUTES = 1
CHECKIN_SECONDS = 3600.0
OUTAGE_S = 2.0
# Repairs a second below which nobody waits any longer, and the time for finding the loss.
SLOWEST_A_SECOND = 3.0
FOUND_S = 300.0
SETTLE_S = 15.0
_CHECKING_IN = 10_000
_FASTEST_CLOCK = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How many subscriptions are lost; how many real seconds the others are watched before."""

    subscriptions: int = 2000
    seconds: float = 20.0
    # Half of the default: this one machine is also the phones and both Exchanges.
    wake_ups_a_second: int = 5

    @property
    def clock_scale(self) -> float:
        """Check-ins come as often, per real second, as those of 10,000 phones at real time."""
        return min(_FASTEST_CLOCK, max(1.0, _CHECKING_IN / self.subscriptions))

    @property
    def settings(self) -> dict[str, str]:
        """What the stand must be told."""
        return {"WAKEUPS_A_SECOND": str(self.wake_ups_a_second)}


class Storm:
    """One run on a stand that has started."""

    def __init__(self, stand: Stand, size: Size, say: Callable[[str], None]) -> None:
        self._stand, self._size, self._say = stand, size, say
        self._control = stand.exchange_control
        self._http = session()
        self._woken: list[float] = []
        self._fleet = _fleet(stand, self._take)
        self._others = _fleet(stand, None)
        self._neighbours = Neighbours(stand, self._others)

    def run(self) -> Outcome:
        """Raises NotLetIn when the others' phones could not join, CommandFailed."""
        self._fleet.start()
        self._others.start()
        try:
            self._neighbours.start()
            self._populate()
            self._say(f"The others are watched for {self._size.seconds:g} seconds ...")
            quiet_from = time.time()
            time.sleep(self._size.seconds)
            restarted = time.time()
            self._say("Exchange restarts and has forgotten all subscriptions ...")
            self._post("restart", {"seconds": OUTAGE_S * self._stand.clock_scale})
            self._await_repairs(restarted)
            repaired_at = self._repaired(restarted)
            ended = max(repaired_at, default=time.time())
            self._neighbours.stop()
            self._settle()
        finally:
            self._neighbours.stop()
            self._fleet.stop()
            self._others.stop()
        return Outcome(
            subscriptions=self._size.subscriptions,
            restarted_at=restarted,
            ended_at=ended,
            repaired_at=repaired_at,
            woken_at=list(self._woken),
            calls=self._calls_per_second(restarted),
            others_before=self._delays(quiet_from, restarted),
            others_during=self._delays(restarted, ended),
            wake_ups_a_second=self._size.wake_ups_a_second,
        )

    def _take(self, _phone: FleetPhone, push: Push) -> None:
        """In the fleet's thread."""
        if push.kind in ("wakeup", "reconnect"):
            self._woken.append(push.at)

    def _populate(self) -> None:
        count = self._size.subscriptions
        self._say(f"{count} subscriptions come into being ...")
        accounts = add_mailboxes(self._control, self._stand.ews_url, count)
        tokens = [secrets.token_hex(32) for _ in accounts]
        asked = {
            "og": OG,
            "app_id": self._stand.facts.app_id,
            "ews_url": self._stand.ews_url,
            "status_frequency_minutes": STATUS_FREQUENCY_MINUTES,
            "phones": [(one.email, token) for one, token in zip(accounts, tokens, strict=True)],
        }
        made = json.loads(self._stand.run_inside("apps.lab.storm.populate", json.dumps(asked)))
        phones = [
            FleetPhone(account, "phone", token, state="active", device=Device(*device))
            for account, token, device in zip(accounts, tokens, made, strict=True)
        ]
        self._fleet.adopt(phones, CHECKIN_SECONDS)

    def _await_repairs(self, began: float) -> None:
        """Wait for a Subscribe of each; asks for the counters only, for the lists are long."""
        count = self._size.subscriptions
        said = began

        def all_subscribed() -> bool:
            nonlocal said
            done = int(self._get("counters")["calls"].get("Subscribe", 0))
            if time.time() - said > 30:
                said = time.time()
                self._say(f"{time.time() - began:4.0f} s: {done} of {count}")
            time.sleep(1.0)
            return done >= count and len(self._repaired(began)) >= count

        with suppress(waiting.TookTooLong):
            longest = FOUND_S / self._stand.clock_scale + 60.0 + count / SLOWEST_A_SECOND
            waiting.until("repairs", all_subscribed, longest)

    def _repaired(self, began: float) -> list[float]:
        """When each mailbox was served again, in real Unix seconds."""
        made: dict[str, float] = {}
        for held in self._get("subscriptions")["subscriptions"]:
            at = self._real(float(held["made_at"]))
            if at >= began:
                made[held["mailbox"]] = min(at, made.get(held["mailbox"], at))
        return sorted(made.values())

    def _real(self, simulated: float) -> float:
        origin = self._stand.clock_origin
        return origin + (simulated - origin) / self._stand.clock_scale

    def _settle(self) -> None:
        with suppress(waiting.TookTooLong):
            mails = self._neighbours.mails
            waiting.until("mails", lambda: len(self._neighbours.arrivals()) >= len(mails), SETTLE_S)

    def _delays(self, first: float, last: float) -> list[float | None]:
        """Of the others' mails of a time: seconds until announced, None for never."""
        arrivals = self._neighbours.arrivals()
        mails: Sequence[Mail] = [one for one in self._neighbours.mails if first <= one.at < last]
        return [
            arrivals[mail.subject] - mail.at if mail.subject in arrivals else None for mail in mails
        ]

    def _calls_per_second(self, began: float) -> Counter[int]:
        told = self._get("counters")["calls_per_second"]
        return Counter({int(at): int(n) for at, n in told.items() if int(at) >= int(began)})

    def _get(self, what: str) -> dict[str, Any]:
        answer = self._http.get(f"{self._control}/lab/{what}", timeout=TIMEOUT_S)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _post(self, what: str, body: dict[str, Any]) -> None:
        answer = self._http.post(f"{self._control}/lab/{what}", json=body, timeout=TIMEOUT_S)
        answer.raise_for_status()


def _fleet(stand: Stand, on_push: Callable[[FleetPhone, Push], None] | None) -> PhoneFleet:
    return PhoneFleet(
        stand.link_address,
        stand.facts.api_token,
        stand.apns_control,
        app_id=stand.facts.app_id,
        clock_scale=stand.clock_scale,
        on_push=on_push,
    )
