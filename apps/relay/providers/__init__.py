"""The push services, a folder each with the same few files.

- `provider.py`: sends notifications, all of a batch side by side
- `token.py`: how we prove to the service who we are
- `classify.py`: what the service's answer means for whoever asked for the push
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["accepted", "dead", "retry", "failed"]


@dataclass(frozen=True, slots=True)
class Notification:
    """A validated notification. `expiration` is Unix seconds, 0 for now or never."""

    id: str
    app: str
    token: str = field(repr=False)
    push_type: Literal["alert", "background"]
    priority: Literal[10, 5]
    expiration: int
    collapse_id: str = field(repr=False)
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a notification.

    `accepted`: the push service has it. `dead`: the device token is of no more use, since
    `dead_since_ms` (Unix milliseconds) where the service says so. `retry`: try again after
    `retry_after_s` seconds. `failed`: wrong in itself or in our set-up; trying again is useless.
    """

    status: Status
    reason: str = ""
    dead_since_ms: int | None = None
    retry_after_s: float | None = None

    def as_json(self, notification_id: str) -> dict[str, Any]:
        """The entry in the relay's answer; members that don't apply are left out."""
        found: dict[str, Any] = {"id": notification_id, "status": self.status}
        if self.reason:
            found["reason"] = self.reason
        if self.dead_since_ms is not None:
            found["dead_since"] = self.dead_since_ms
        if self.retry_after_s is not None:
            found["retry_after_s"] = self.retry_after_s
        return found
