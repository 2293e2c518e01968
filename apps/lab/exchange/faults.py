"""Troubles on demand: a busy server, one that hangs or is slow, one that isn't there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, get_args

from .clock import Clock
from .errors import says

FaultKind = Literal["busy", "error", "hang", "moving", "slow", "too_many_requests", "unavailable"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
RetryAfter = Literal["none", "seconds", "date"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A trouble until `until` (lab seconds), for some operations and one user or for all.

    `busy` answers ErrorServerBusy with `back_off_ms`; `error` a fault with `code`, which with
    `wrapped` is the inner code of an ErrorInternalServerError, as Exchange puts what a request's
    schema doesn't know; `moving` ErrorMailboxMoveInProgress; `too_many_requests` HTTP 429 and
    `unavailable` HTTP 503, both with a Retry-After of `retry_after_s` in the form of `retry_after`;
    `hang` nothing while it lasts; `slow` the right thing after `delay_s` lab seconds.
    """

    kind: FaultKind
    until: float
    back_off_ms: int = 10_000
    delay_s: float = 1.0
    operations: frozenset[str] = frozenset()
    address: str = field(default="", repr=False)
    code: str = ""
    wrapped: bool = False
    retry_after: RetryAfter = "none"
    retry_after_s: float = 0.0


class Faults:
    """The troubles that hold now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._faults: list[Fault] = []

    def add(
        self,
        kind: FaultKind,
        seconds: float,
        *,
        back_off_ms: int = 10_000,
        delay_s: float = 1.0,
        operations: Collection[str] = (),
        address: str = "",
        code: str = "",
        wrapped: bool = False,
        retry_after: RetryAfter = "none",
        retry_after_s: float = 0.0,
    ) -> None:
        """For so many lab seconds; no operations or address means all.

        Raises ValueError for an `error` whose code this server never says.
        """
        if kind == "error" and not says(code):
            raise ValueError("unknown code")
        until = self._clock.seconds() + seconds
        self._faults.append(
            Fault(
                kind,
                until,
                back_off_ms,
                delay_s,
                frozenset(operations),
                address.lower(),
                code,
                wrapped,
                retry_after,
                retry_after_s,
            )
        )

    def clear(self) -> None:
        """Ends all troubles now; calls that hang are answered."""
        self._faults.clear()

    def holds(self, fault: Fault) -> bool:
        """False once the trouble was cleared."""
        return fault in self._faults

    def find(self, operation: str, address: str) -> Fault | None:
        """The first trouble that meets this call."""
        now = self._clock.seconds()
        self._faults = [fault for fault in self._faults if fault.until > now]
        for fault in self._faults:
            if fault.operations and operation not in fault.operations:
                continue
            if fault.address and fault.address != address.lower():
                continue
            return fault
        return None
