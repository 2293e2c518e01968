"""What came of a storm: who is served again, how evenly, and what the others noticed."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Over so many seconds the rate of wake-ups is judged: a second's share may come early or late.
WINDOW_S = 5
# The others' p95 may become worse by this factor, and so many milliseconds.
WORSE_BY = 1.5
WORSE_BY_MS = 100.0


@dataclass(frozen=True)
class Outcome:
    """The figures. Times are real Unix seconds, `calls` those to Exchange by the second.

    `others_*` are the delays in seconds of the other mail system's announcements, None for one
    that never came.
    """

    subscriptions: int
    restarted_at: float
    ended_at: float
    repaired_at: Sequence[float] = field(repr=False)
    woken_at: Sequence[float] = field(repr=False)
    calls: Mapping[int, int] = field(repr=False)
    others_before: Sequence[float | None] = field(repr=False)
    others_during: Sequence[float | None] = field(repr=False)
    wake_ups_a_second: int

    @property
    def seconds(self) -> range:
        """Every second from the restart to the last repair."""
        return range(int(self.restarted_at), int(self.ended_at) + 1)

    @property
    def wake_ups(self) -> Counter[int]:
        """How many wake-ups APNs took, by the second."""
        return Counter(int(at) for at in self.woken_at)

    @property
    def limit_kept(self) -> bool:
        """Whether no window of some seconds saw more wake-ups than its seconds, and one, allow."""
        times = sorted(self.woken_at)
        most = self.wake_ups_a_second * (WINDOW_S + 1)
        return all(
            later - earlier >= WINDOW_S for earlier, later in zip(times, times[most:], strict=False)
        )

    @property
    def undisturbed(self) -> bool:
        """Whether the others' announcements all came, about as fast as before."""
        before, during = _p95_ms(self.others_before), _p95_ms(self.others_during)
        if before is None or during is None or None in (*self.others_before, *self.others_during):
            return False
        return during <= before * WORSE_BY + WORSE_BY_MS

    @property
    def kept(self) -> bool:
        """Whether all are served again, without a storm and without the others noticing."""
        repaired = len(self.repaired_at) == self.subscriptions
        return repaired and self.limit_kept and self.undisturbed

    def as_json(self) -> dict[str, Any]:
        """The last line of `make storm JSON=1`; minutes are real ones, since the restart."""
        minutes = [(at - self.restarted_at) / 60 for at in self.repaired_at]
        calls = [self.calls.get(second, 0) for second in self.seconds]
        return {
            "subscriptions": self.subscriptions,
            "repaired": len(minutes),
            "repair_minutes": {
                "median": round(statistics.median(minutes), 2) if minutes else None,
                "max": round(max(minutes), 2) if minutes else None,
            },
            "calls_per_s": {"max": max(calls), "p95": _p95(calls)},
            "wakeups_per_s": {"max": max(self.wake_ups.values(), default=0)},
            "others_p95_ms": {
                "before": _p95_ms(self.others_before),
                "during": _p95_ms(self.others_during),
            },
        }

    def table(self) -> str:
        """The figures for people."""
        told = self.as_json()
        repair, calls, others = told["repair_minutes"], told["calls_per_s"], told["others_p95_ms"]
        limit = f"limit {self.wake_ups_a_second}, over {WINDOW_S} s"
        lines = [
            ("subscriptions lost", str(self.subscriptions)),
            ("phones woken", f"{len(self.woken_at)}; the others checked in before that"),
            ("repaired", str(told["repaired"])),
            ("  after", f"median {repair['median']} min, at most {repair['max']} min"),
            ("calls to Exchange", f"at most {calls['max']}, p95 {calls['p95']} a second"),
            ("wake-ups", f"at most {told['wakeups_per_s']['max']} in a second ({limit})"),
            ("  limit", "kept" if self.limit_kept else "BROKEN"),
            ("others' mail", f"{len(self.others_before)} before, {len(self.others_during)} during"),
            ("  never announced", str([*self.others_before, *self.others_during].count(None))),
            ("  p95", f"{others['before']} ms before, {others['during']} ms during"),
            ("promise", "kept" if self.kept else "BROKEN"),
        ]
        return "\n".join(f"{name:<20} {value}" for name, value in lines)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def _p95_ms(delays: Sequence[float | None]) -> float | None:
    known = [delay for delay in delays if delay is not None]
    return round(_p95(known) * 1000, 1) if known else None
