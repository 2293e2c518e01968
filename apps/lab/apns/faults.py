"""Faults to order: what a real APNs does on a bad day, on the next so many notifications or for
some seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from apps.lab.apns.answers import STATUS_OF_REASON

Action = Literal["refuse", "drop", "deliver_and_drop", "goaway", "hang"]


@dataclass(slots=True)
class Fault:
    """One fault, for the next `times` notifications (or for those to `token` only).

    With `seconds`, for all notifications in so many seconds from the order, however many.

    - `refuse`: answer with `reason`, and `retry_after_s` if given, before any check
    - `drop`: cut the connection, without an answer and without delivering
    - `deliver_and_drop`: deliver, then cut the connection: the answer is lost
    - `goaway`: send GOAWAY with a last stream id below this one, then close when the streams
      before it are answered
    - `hang`: take the notification and never answer
    - with `delay_s`: all of this, or the plain answer if `action` is None, that much later
    """

    reasons: ClassVar[Collection[str]] = STATUS_OF_REASON

    action: Action | None = None
    times: int = 1
    reason: str = ""
    retry_after_s: int | None = None
    delay_s: float = 0.0
    token: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.action is not None and self.action not in get_args(Action):
            raise ValueError("unknown action")
        if self.action == "refuse" and self.reason not in self.reasons:
            raise ValueError("unknown reason")


class Faults:
    """The faults that are still to happen, in the order they were ordered."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()
        self._until: dict[int, float] = {}

    def order(self, fault: Fault) -> None:
        """Let a fault happen to coming notifications."""
        self._waiting.append(fault)
        if fault.seconds > 0:
            self._until[id(fault)] = time.monotonic() + fault.seconds

    def clear(self) -> None:
        """Forget every fault that has not happened."""
        self._waiting.clear()
        self._until.clear()

    def next_for(self, token: str) -> Fault | None:
        """The fault for this notification, if any; uses up one of its times."""
        for fault in list(self._waiting):
            until = self._until.get(id(fault))
            if until is not None and time.monotonic() >= until:
                del self._until[id(fault)]
                self._waiting.remove(fault)
            elif fault.token in ("", token):
                if until is not None:
                    return fault
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None
