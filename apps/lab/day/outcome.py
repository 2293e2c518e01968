"""What came of a simulated day: which dropped subscriptions were found and repaired, and when."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# Everything that isn't waiting by the simulated clock (calls, polls, a busy machine) takes real
# time, which the clock multiplies; so much of it is no fault of the scan's.
ALLOWANCE_S = 5.0
SCAN_MINUTES = 1.0


@dataclass(slots=True)
class Dropped:
    """A subscription that Exchange forgot. Times are Unix seconds of the simulated clock."""

    subscription_id: str
    mailbox: str = field(repr=False)
    at: float
    woken_at: float | None = None
    repaired_at: float | None = None
    rang: bool = False

    @property
    def repair_minutes(self) -> float | None:
        return None if self.repaired_at is None else (self.repaired_at - self.at) / 60

    @property
    def found_minutes(self) -> float | None:
        """Until its phone was woken, or mended it at an hourly check-in before that."""
        known = [at for at in (self.woken_at, self.repaired_at) if at is not None]
        return (min(known) - self.at) / 60 if known else None


@dataclass(frozen=True)
class Outcome:
    """The figures. `needless`: healthy mailboxes that got another subscription."""

    subscriptions: int
    dropped: Sequence[Dropped] = field(repr=False)
    status_frequency_minutes: int
    clock_scale: float
    needless: int

    @property
    def repaired(self) -> int:
        """Subscriptions that live again, and whose phone rang for a mail afterwards."""
        return sum(one.repaired_at is not None and one.rang for one in self.dropped)

    @property
    def bound_minutes(self) -> float:
        """Twice StatusFrequency and a scan, and what real time does to it."""
        return (
            2 * self.status_frequency_minutes + SCAN_MINUTES + ALLOWANCE_S * self.clock_scale / 60
        )

    @property
    def late(self) -> int:
        """Dropped subscriptions that were not found in time."""
        found = [one.found_minutes for one in self.dropped]
        return sum(minutes is None or minutes > self.bound_minutes for minutes in found)

    @property
    def kept(self) -> bool:
        return self.repaired == len(self.dropped) and self.late == 0

    def as_json(self) -> dict[str, Any]:
        """The last line of `make simulate-day JSON=1`."""
        return {
            "subscriptions": self.subscriptions,
            "dropped": len(self.dropped),
            "repaired": self.repaired,
            "repair_minutes": _spread([one.repair_minutes for one in self.dropped]),
        }

    def table(self) -> str:
        """The figures for people."""
        found = _spread([one.found_minutes for one in self.dropped])
        repair = _spread([one.repair_minutes for one in self.dropped])
        woken = sum(one.woken_at is not None for one in self.dropped)
        lines = [
            ("subscriptions", str(self.subscriptions)),
            ("dropped silently", str(len(self.dropped))),
            ("found after", f"median {found['median']} min, at most {found['max']} min"),
            ("  allowed", f"{self.bound_minutes:.0f} min; late: {self.late}"),
            ("phones woken", str(woken)),
            ("repaired", str(self.repaired)),
            ("  after", f"median {repair['median']} min, at most {repair['max']} min"),
            ("renewed needlessly", str(self.needless)),
            ("promise", "kept" if self.kept else "BROKEN"),
        ]
        return "\n".join(f"{name:<20} {value}" for name, value in lines)


def _spread(minutes: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in minutes if value is not None]
    return {
        "median": round(statistics.median(known), 1) if known else None,
        "max": round(max(known), 1) if known else None,
    }
