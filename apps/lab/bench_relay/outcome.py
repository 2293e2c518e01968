"""What the bench has measured: medians and spread, the goals, a table and JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

# Who is held against whom: the goals of the push services' part.
GOALS = (
    ("provider", 0.7, "node_apn"),
    ("provider", 0.2, "aioapns"),
    ("relay", 1.0, "node_apn"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's pushes of one round. CPU in seconds, user and system."""

    pushes: int
    seconds: float
    cpu_s: float
    server_cpu_s: float

    @property
    def cpu_us(self) -> float:
        """CPU µs a push, of the contender's processes alone."""
        return self.cpu_s * 1e6 / self.pushes

    @property
    def per_s(self) -> float:
        """Pushes a second of real time."""
        return self.pushes / self.seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """All runs by contender, in order, with what each contender is."""

    what: Mapping[str, str]
    runs: Mapping[str, Sequence[Run]]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Medians by contender; `cpu_us_range` and `per_s_range` are the least and the most."""
        return {name: _summary(runs) for name, runs in self.runs.items()}

    def raw(self) -> dict[str, Any]:
        """Everything, for keeping beside the table."""
        return {
            "machine": {
                "cores": os.cpu_count(),
                "system": platform.platform(),
                "python": platform.python_version(),
            },
            "contenders": self.as_json(),
            "goals": [
                {"contender": ours, "at_most": factor, "of": theirs, "found": found}
                for ours, factor, theirs, found in self.goals()
            ],
            "runs": {name: [asdict(run) for run in runs] for name, runs in self.runs.items()},
        }

    def goals(self) -> list[tuple[str, float, str, float]]:
        """Each goal that can be judged, with the ratio of CPU a push that was found."""
        return [
            (ours, factor, theirs, round(self._cpu_us(ours) / self._cpu_us(theirs), 3))
            for ours, factor, theirs in GOALS
            if ours in self.runs and theirs in self.runs
        ]

    def table(self) -> str:
        """Both as text for people."""
        lines = [f"{'':<38}{'CPU µs a push':>14}{'(range)':>14}{'a second':>11}{'(range)':>16}"]
        for name, found in self.as_json().items():
            low, high = found["cpu_us_range"]
            slow, fast = found["per_s_range"]
            lines.append(
                f"{self.what[name]:<38}{found['cpu_us']:>14.1f}{f'{low:.0f}-{high:.0f}':>14}"
                f"{found['per_s']:>11,.0f}{f'{slow:,.0f}-{fast:,.0f}':>16}"
            )
        lines.append("")
        for ours, factor, theirs, ratio in self.goals():
            verdict = "reached" if ratio <= factor else "MISSED"
            lines.append(f"{ours} / {theirs}: {ratio:.2f}, goal at most {factor:g}: {verdict}")
        return "\n".join(lines)

    def _cpu_us(self, name: str) -> float:
        return median(run.cpu_us for run in self.runs[name])


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    cpu = [run.cpu_us for run in runs]
    speed = [run.per_s for run in runs]
    return {
        "per_s": round(median(speed)),
        "cpu_us": round(median(cpu), 1),
        "per_s_range": [round(min(speed)), round(max(speed))],
        "cpu_us_range": [round(min(cpu), 1), round(max(cpu), 1)],
        "server_cpu_us": round(median(run.server_cpu_s * 1e6 / run.pushes for run in runs), 1),
        "pushes": runs[0].pushes,
        "repeats": len(runs),
    }
