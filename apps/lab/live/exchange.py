"""The live page's mailbox at the lab's Exchange, through that one's control port."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import requests

from apps.lab.live.mailbox import Mail

TIMEOUT_S = 10.0
SHOWN = 50


class LabMailbox:
    """One user's inbox at the lab's Exchange; implements `mailbox.Mailbox`."""

    def __init__(self, control_url: str, address: str) -> None:
        self._base = f"{control_url}/lab"
        self._address = address
        self._http = requests.Session()
        self._http.trust_env = False

    def deliver(self, sender_name: str, sender_address: str, subject: str) -> float:
        """Let a mail arrive now; returns the Unix time of its arrival."""
        item_id = self._call(
            "POST",
            "deliver",
            {
                "to": self._address,
                "from_name": sender_name,
                "from_address": sender_address,
                "subject": subject,
            },
        )["item_id"]
        return next(mail.at for mail in self.inbox() if mail.id == item_id)

    def inbox(self) -> list[Mail]:
        """The newest mails, newest first."""
        items = self._call("GET", f"mailboxes/{self._address}/items")["items"]
        return [
            Mail(
                item["item_id"],
                item["from_name"],
                item["subject"],
                datetime.fromisoformat(item["received_at"]).timestamp(),
                item["is_read"],
            )
            for item in items[:SHOWN]
        ]

    def mark_read(self, mail_id: str) -> None:
        """Mark a mail as read; raises KeyError when there is none with this id."""
        try:
            self._call("POST", "read", {"item_id": mail_id})
        except requests.HTTPError as error:
            raise KeyError(mail_id) from error

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # requests' exceptions are OSErrors, which is what our callers expect.
        answer = self._http.request(method, f"{self._base}/{path}", json=body, timeout=TIMEOUT_S)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
