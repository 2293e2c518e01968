"""The phones behind APNs: which token belongs to which app, and what arrived at each.

A phone's screen is kept as iOS would: an announcement with a known collapse id replaces the
earlier one, the badge is what the last push set. Every arrival is kept beside it, so that a test
sees a notification that rang twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from apps.lab.apns.answers import Refused
from apps.lab.apns.rules import Push


@dataclass(frozen=True, slots=True)
class Arrival:
    """One push that reached a phone. `number` counts from 1 per token; `at` is a Unix time."""

    number: int
    apns_id: str
    at: float
    push: Push = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The arrival as the control port shows it."""
        return {
            "number": self.number,
            "apns_id": self.apns_id,
            "at": self.at,
            "topic": self.push.topic,
            "push_type": self.push.push_type,
            "priority": self.push.priority,
            "expiration": self.push.expiration,
            "collapse_id": self.push.collapse_id,
            "payload": self.push.payload,
        }


@dataclass(slots=True)
class Screen:
    """What the phone shows: its notifications, newest last, and the badge on the icon."""

    shown: list[Arrival] = field(default_factory=list)
    badge: int = 0

    def take(self, arrival: Arrival) -> None:
        """Show an arrival, in place of an earlier one with the same collapse id."""
        aps = arrival.push.payload["aps"]
        self.badge = aps.get("badge", self.badge)
        if not aps.get("alert"):
            return
        collapse_id = arrival.push.collapse_id
        if collapse_id:
            self.shown = [a for a in self.shown if a.push.collapse_id != collapse_id]
        self.shown.append(arrival)


@dataclass(slots=True)
class _Phone:
    topic: str
    unregistered_ms: int | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    screen: Screen = field(default_factory=Screen)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Phones:
    """All device tokens. To be used in one event loop only."""

    def __init__(self) -> None:
        self._phones: dict[str, _Phone] = {}
        self._all: list[Arrival] = []
        self._news = asyncio.Event()

    def register(self, token: str, topic: str) -> None:
        """Make a token valid for a topic; a token that is known keeps what arrived."""
        phone = self._phones.setdefault(token, _Phone(topic))
        phone.topic = topic
        phone.unregistered_ms = None

    def unregister(self, token: str, now: float) -> None:
        """From now on pushes to the token are answered 410; raises KeyError when unknown."""
        self._phones[token].unregistered_ms = int(now * 1000)

    def check(self, token: str, topic: str) -> None:
        """Raise Refused unless a push for the topic may go to the token."""
        phone = self._phones.get(token)
        if phone is None:
            raise Refused("BadDeviceToken")
        if phone.topic != topic:
            raise Refused("DeviceTokenNotForTopic")
        if phone.unregistered_ms is not None:
            raise Refused("Unregistered", phone.unregistered_ms)

    def deliver(self, push: Push, apns_id: str, now: float) -> None:
        """Hand a checked push to its phone."""
        phone = self._phones[push.token]
        arrival = Arrival(len(phone.arrivals) + 1, apns_id, now, push)
        phone.arrivals.append(arrival)
        phone.screen.take(arrival)
        # Those who wait hold this event; whoever asks next gets a new one.
        phone.news.set()
        phone.news = asyncio.Event()
        self._all.append(arrival)
        self._news.set()

    def arrivals(self, token: str, after: int = 0) -> list[Arrival]:
        """What arrived with a number above `after`; raises KeyError for an unknown token."""
        return self._phones[token].arrivals[after:]

    def screen(self, token: str) -> Screen:
        """What the phone shows now; raises KeyError for an unknown token."""
        return self._phones[token].screen

    async def wait(self, token: str, after: int, timeout_s: float) -> list[Arrival]:
        """Arrivals above `after`, as soon as there is one; empty when the time is over."""
        phone = self._phones[token]
        try:
            async with asyncio.timeout(timeout_s):
                while len(phone.arrivals) <= after:
                    await phone.news.wait()
        except TimeoutError:
            return []
        return phone.arrivals[after:]

    async def stream_all(self) -> AsyncIterator[tuple[int, list[Arrival]]]:
        """Every arrival at any phone from the start on, in batches with the number of the last.

        For one reader that plays many phones; never ends by itself.
        """
        after = 0
        while True:
            while len(self._all) <= after:
                self._news.clear()
                await self._news.wait()
            batch = self._all[after:]
            after = len(self._all)
            yield after, batch

    async def stream(self, token: str, after: int = 0) -> AsyncIterator[Arrival]:
        """Every arrival above `after`, those to come included; never ends by itself."""
        phone = self._phones[token]
        while True:
            while len(phone.arrivals) <= after:
                await phone.news.wait()
            for arrival in phone.arrivals[after:]:
                after = arrival.number
                yield arrival
