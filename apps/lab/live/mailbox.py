"""What the live page needs of a mail server: let a mail arrive, list the inbox, mark as read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in the inbox; `at` is the Unix time of its arrival."""

    id: str
    sender: str = field(repr=False)
    subject: str = field(repr=False)
    at: float
    read: bool


class Mailbox(Protocol):
    """One user's inbox. The methods block; they raise OSError when the server does not answer."""

    def deliver(self, sender_name: str, sender_address: str, subject: str) -> float:
        """Let a mail arrive now; returns the Unix time of its arrival."""

    def inbox(self) -> list[Mail]:
        """The newest mails, newest first."""

    def mark_read(self, mail_id: str) -> None:
        """Mark a mail as read; raises KeyError when there is none with this id."""
