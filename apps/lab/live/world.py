"""What the live page shows, and the one place that knows when it has changed."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Sequence
from typing import Any

from apps.lab.live.mailbox import Mail, Mailbox
from apps.lab.phone import Phone, Push

NOTICES_SHOWN = 6
# Mail that came another way than through this page is found by asking.
LOOK_EVERY_S = 2.0
SUGGESTIONS = [
    {"sender": "Ben Carter", "subject": "Lunch on Friday?"},
    {"sender": "Chloé Martin", "subject": "The signed contract, as promised"},
    {"sender": "Jürgen Weiß", "subject": "Angebot für Dienstag: bitte prüfen"},
    {"sender": "Service Desk", "subject": "Ticket 4711 has been resolved"},
]
_STATES = {"new": "connecting …", "joining": "connecting …", "active": "active"}


class World:
    """One user with an inbox and some phones. Belongs to the event loop that made it."""

    def __init__(self, name: str, address: str, mailbox: Mailbox, phones: Sequence[Phone]) -> None:
        self._user = {"name": name, "address": address}
        self._mailbox = mailbox
        self._phones = phones
        self._inbox: list[Mail] = []
        self._arrived: dict[tuple[str, str], float] = {}
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._shown: dict[str, Any] = {}

    async def send(self, sender: str, subject: str) -> None:
        """Let a mail arrive; raises OSError when Exchange does not take it."""
        address = _address(sender)
        at = await asyncio.to_thread(self._mailbox.deliver, sender, address, subject)
        self._arrived[sender, subject] = at
        await self.look()

    async def mark_read(self, mail_id: str) -> None:
        """Mark a mail as read; raises KeyError for an unknown id, OSError as `send` does."""
        await asyncio.to_thread(self._mailbox.mark_read, mail_id)
        await self.look()

    async def look(self) -> None:
        """Read the inbox anew and tell everyone when anything has changed."""
        self._inbox = await asyncio.to_thread(self._mailbox.inbox)
        self._tell()

    async def look_now_and_then(self) -> None:
        """Keep looking; to be run as a task."""
        while True:
            try:
                await self.look()
            except OSError:
                self._tell()
            await asyncio.sleep(LOOK_EVERY_S)

    def pushed(self, _push: Push) -> None:
        """A phone took a push; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._tell)

    async def states(self) -> AsyncIterator[dict[str, Any]]:
        """The state now and after every change; what changed twice meanwhile comes once."""
        while True:
            changed = self._changed
            yield self.state()
            await changed.wait()

    def state(self) -> dict[str, Any]:
        """Everything the page shows, ready for JSON."""
        return {
            "user": self._user,
            "unread": sum(not mail.read for mail in self._inbox),
            "inbox": [
                {
                    "id": mail.id,
                    "sender": mail.sender,
                    "subject": mail.subject,
                    "at": mail.at,
                    "read": mail.read,
                }
                for mail in self._inbox
            ],
            "phones": [self._phone(phone) for phone in self._phones],
        }

    def _phone(self, phone: Phone) -> dict[str, Any]:
        state = _STATES.get(phone.state, f"{phone.state}: {phone.code or 'see the log'}")
        newest_first = phone.screen.notifications[::-1]
        return {
            "name": phone.name,
            "state": state,
            "badge": phone.screen.badge,
            "last": len(phone.pushes),
            "notices": [self._notice(push) for push in newest_first[:NOTICES_SHOWN]],
        }

    def _notice(self, push: Push) -> dict[str, Any]:
        arrived = self._arrived.get((push.title, push.body))
        took = None if arrived is None or arrived > push.at else push.at - arrived
        return {
            "number": push.number,
            "title": push.title,
            "body": push.body,
            "verified": push.verified,
            "at": push.at,
            "took": took,
        }

    def _tell(self) -> None:
        state = self.state()
        if state != self._shown:
            self._shown = state
            # Those who wait hold this event; whoever asks next gets a new one.
            self._changed.set()
            self._changed = asyncio.Event()


def _address(name: str) -> str:
    """A plausible address for a name typed by a person."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore")
    words = re.findall(r"[a-z0-9]+", plain.decode().lower())
    return f"{'.'.join(words) or f'sender{int(time.time())}'}@partner.example"
