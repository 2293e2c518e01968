"""The push services, a folder each with the same few files.

- `provider.py`: sends notifications, all of a batch side by side (`Provider`)
- `check.py`: whether credentials are fit, when they are uploaded; what is kept of them
- `token.py`: how we prove to the service who we are
- `classify.py`: what the service's answer means for whoever asked for the push

`ways.py` knows which provider has which name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Status = Literal["accepted", "dead", "retry", "failed"]


# Not frozen: that would more than double what making one costs.
@dataclass(slots=True)
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

    `ours_to_fix`: the push service objects to the app's credentials or set-up rather than to this
    notification; operators are told of it.
    """

    status: Status
    reason: str = ""
    dead_since_ms: int | None = None
    retry_after_s: float | None = None
    ours_to_fix: bool = False

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


ACCEPTED = Outcome("accepted")


@dataclass(frozen=True, slots=True)
class OpenApp:
    """A push app with its credentials opened, for as long as one call takes.

    `credentials` is what the provider's `check` returned. `revision` changes when they are
    replaced: whatever a provider keeps of them (tokens, connections) is kept under
    `(pk, revision)` or under something that changes with the credentials.
    """

    pk: int
    app: str
    sandbox: bool
    credentials: bytes = field(repr=False)
    revision: str


Done = Callable[[Notification, Outcome], None]


class Provider(Protocol):
    """One way to a push service. One object per process, used from the background loop only."""

    async def send(self, app: OpenApp, notifications: Sequence[Notification], done: Done) -> None:
        """Send all of them side by side.

        Calls `done` exactly once for each, as soon as its answer is known, and returns after the
        last. Never raises for what befalls one notification.
        """


@dataclass(frozen=True, slots=True)
class Checked:
    """Credentials that were found fit.

    `credentials`: what to seal, and to hand to the provider as `OpenApp.credentials`.
    `expires_at`: when the push service will stop taking them; None where they don't expire.
    `summary`: what may be shown to operators, nothing secret: key id, team id, topic, project id.
    """

    credentials: bytes = field(repr=False)
    expires_at: datetime | None
    summary: Mapping[str, str]


class CredentialsUnfit(Exception):
    """An upload that can't be used; `code` is stable, in snake_case, and says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
