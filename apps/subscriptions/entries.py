"""What the event log carries for us: joins, and what a mailbox's worker has to look at."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from apps.exchange.ews.notification import Event

JOIN = "join"
MAIL = "mail"

# Mail bears Exchange's time, gaps have ours: a catch-up looks back by so much more.
CLOCKS_DIFFER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class JoinWork:
    """A device wants in: its sealed credentials, for the subscription row that waits for them."""

    device_id: uuid.UUID
    creds: str = field(repr=False)
    # The hash of the device's secret: whoever enrols the device anew has another one, and must
    # not get the proof of these credentials.
    enrolment: str = field(repr=False)
    # In the log lines from here to the first push (apps/request_id.py).
    request_id: str = ""

    def to_bytes(self) -> bytes:
        raw = {"device": str(self.device_id), "creds": self.creds, "enrolment": self.enrolment}
        return json.dumps(raw | {"request": self.request_id}).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> JoinWork:
        raw = json.loads(payload)
        return cls(
            device_id=uuid.UUID(raw["device"]),
            creds=raw["creds"],
            enrolment=raw["enrolment"],
            request_id=raw.get("request", ""),
        )


@dataclass(frozen=True, slots=True)
class MailWork:
    """Something happened in an Inbox: a notification's events, or a gap to catch up with."""

    creds: str = field(repr=False)
    events: tuple[Event, ...] = ()
    # Exchange's SubscriptionId, as an HMAC: the first notification may name it before Subscribe's
    # answer does.
    foreign_hmac: str = ""
    error_code: str = ""
    catch_up_since: datetime | None = None
    # Fingerprints of the notification's PreviousWatermark and of its last event's Watermark.
    previous: str = ""
    last: str = ""
    # Partitions whose dead letters this catch-up replays.
    replays: tuple[str, ...] = ()
    # The one device that this is for; empty: all of the mailbox.
    device: str = ""
    # In the log lines of whatever this sets off (apps/request_id.py).
    request_id: str = ""

    def to_bytes(self) -> bytes:
        raw: dict[str, Any] = {"c": self.creds}
        if self.events:
            raw["e"] = [_slim(event) for event in self.events]
        if self.foreign_hmac:
            raw["f"] = self.foreign_hmac
        if self.error_code:
            raw["x"] = self.error_code
        if self.catch_up_since:
            raw["s"] = self.catch_up_since.isoformat()
        if self.last:
            raw["w"] = [self.previous, self.last]
        if self.replays:
            raw["d"] = self.replays
        if self.device:
            raw["t"] = self.device
        if self.request_id:
            raw["r"] = self.request_id
        return json.dumps(raw, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> MailWork:
        raw = json.loads(payload)
        previous, last = raw.get("w", ("", ""))
        return cls(
            creds=raw["c"],
            events=tuple(_event(one) for one in raw.get("e", ())),
            foreign_hmac=raw.get("f", ""),
            error_code=raw.get("x", ""),
            catch_up_since=datetime.fromisoformat(raw["s"]) if "s" in raw else None,
            previous=previous,
            last=last,
            replays=tuple(raw.get("d", ())),
            device=raw.get("t", ""),
            request_id=raw.get("r", ""),
        )


def fingerprint(watermark: str | None) -> str:
    """What stands for a watermark in our log and database; empty for none."""
    return hashlib.sha256(watermark.encode()).hexdigest()[:32] if watermark else ""


def _slim(event: Event) -> dict[str, Any]:
    raw = {name: value for name, value in asdict(event).items() if value not in (None, "")}
    if event.timestamp is not None:
        raw["timestamp"] = event.timestamp.isoformat()
    return raw


def _event(raw: dict[str, Any]) -> Event:
    if "timestamp" in raw:
        raw = raw | {"timestamp": datetime.fromisoformat(raw["timestamp"])}
    return Event(**raw)
