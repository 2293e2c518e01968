"""The phones behind FCM: whose registration token is whose, and what arrived at each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from apps.lab.fcm.answers import Refused
from apps.lab.fcm.rules import Message


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message that reached a phone. `number` counts from 1 per token; `at` is a Unix time."""

    number: int
    at: float
    message: Message = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The arrival as the control port shows it."""
        sent = self.message
        return {
            "number": self.number,
            "at": self.at,
            "package": sent.package,
            "priority": sent.priority,
            "ttl_s": sent.ttl_s,
            "collapse_key": sent.collapse_key,
            "data": sent.data,
        }


@dataclass(slots=True)
class _Phone:
    project_id: str
    package: str
    registered: bool = True
    arrivals: list[Arrival] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Phones:
    """All registration tokens. To be used in one event loop only."""

    def __init__(self) -> None:
        self._phones: dict[str, _Phone] = {}
        self._all: list[Arrival] = []
        self._news = asyncio.Event()

    def register(self, token: str, project_id: str, package: str) -> None:
        """Make a token valid for a sender and an app; a known one keeps what arrived."""
        phone = self._phones.setdefault(token, _Phone(project_id, package))
        phone.project_id, phone.package, phone.registered = project_id, package, True

    def unregister(self, token: str) -> None:
        """From now on messages to the token are answered 404; raises KeyError when unknown."""
        self._phones[token].registered = False

    def deliver(self, message: Message, project_id: str, now: float) -> None:
        """Hand a message to its phone; raises Refused when it isn't that sender's or app's."""
        phone = self._phones.get(message.token)
        if phone is None:
            text = "The registration token is not a valid FCM registration token"
            raise Refused("INVALID_ARGUMENT", text)
        if not phone.registered:
            raise Refused("UNREGISTERED", "Requested entity was not found.")
        if phone.project_id != project_id:
            raise Refused("SENDER_ID_MISMATCH", "SenderId mismatch")
        if phone.package != message.package:
            text = "The package name does not match that of the registration token"
            raise Refused("INVALID_ARGUMENT", text, "message.android.restricted_package_name")
        arrival = Arrival(len(phone.arrivals) + 1, now, message)
        phone.arrivals.append(arrival)
        # Those who wait hold this event; whoever asks next gets a new one.
        phone.news.set()
        phone.news = asyncio.Event()
        self._all.append(arrival)
        self._news.set()

    def arrivals(self, token: str, after: int = 0) -> list[Arrival]:
        """What arrived with a number above `after`; raises KeyError for an unknown token."""
        return self._phones[token].arrivals[after:]

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

    async def stream_all(self) -> AsyncIterator[list[Arrival]]:
        """Every arrival at any phone from the start on, in batches; never ends by itself."""
        after = 0
        while True:
            while len(self._all) <= after:
                self._news.clear()
                await self._news.wait()
            batch = self._all[after:]
            after = len(self._all)
            yield batch
