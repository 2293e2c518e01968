"""Which fault happens when: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

KILLS: Final = ("web", "web-2", "worker", "worker-2", "relay")
# What happens beside the kills, and how long it lasts at most (seconds; 0: as long as it takes).
OTHERS: Final = {
    "postgres restart": 0.0,
    "redis restart": 0.0,
    "redis fail-over": 0.0,
    "exchange network": 4.0,
    "apns 503": 10.0,
}
KILL_EVERY_S: Final = 4.0
# After its fault, this share of the time between two of the others belongs to recovery.
_JITTER: Final = 0.4


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault at `at` seconds from the first mail, for `seconds` where it has a length."""

    at: float
    name: str
    seconds: float = 0.0


def plan(seed: int, seconds: float) -> list[Planned]:
    """The faults of a run in which mail comes for so many seconds, in the order of their time.

    Each of `OTHERS` happens once and every program of `KILLS` again and again in between.
    """
    dice = random.Random(seed)
    others = list(OTHERS)
    dice.shuffle(others)
    slot = seconds * 0.9 / len(others)
    found = [
        Planned(
            seconds * 0.05 + slot * (number + _JITTER * dice.random()),
            name,
            min(OTHERS[name], slot * 0.9),
        )
        for number, name in enumerate(others)
    ]
    kills: list[str] = []
    at = KILL_EVERY_S / 2
    while at < seconds:
        if not kills:
            kills = list(KILLS)
            dice.shuffle(kills)
        found.append(Planned(at + dice.random(), f"kill {kills.pop()}"))
        at += KILL_EVERY_S
    return sorted(found, key=lambda fault: fault.at)
