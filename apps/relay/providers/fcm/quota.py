"""A project that has sent too much is left alone for a while, by this process.

Google asks for at least a minute before the first repetition, more before the next, and jitter:
https://firebase.google.com/docs/cloud-messaging/scale-fcm
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 900.0
# Up to so much of a pause is added at random, lest all come back at once.
_JITTER = 0.25


@dataclass(slots=True)
class _Pause:
    until: float
    length_s: float


class Quotas:
    """The pauses of all projects. `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}

    def wait_s(self, project: str) -> float | None:
        """In how many seconds to come again, jitter included; None when it may send now."""
        pause = self._pauses.get(project)
        left = pause.until - self._clock() if pause is not None else 0.0
        return left * (1 + random.uniform(0, _JITTER)) if left > 0 else None  # noqa: S311

    def exceeded(self, project: str, told_s: float | None) -> float:
        """A project was refused: begin a pause, unless one runs; returns what `wait_s` would.

        `told_s`: how long Google wants us to wait, where it said so.
        """
        now = self._clock()
        pause = self._pauses.get(project)
        if pause is None or now >= pause.until:
            twice = FIRST_PAUSE_S if pause is None else min(pause.length_s * 2, LONGEST_PAUSE_S)
            length_s = twice if told_s is None else max(told_s, 1.0)
            self._pauses[project] = pause = _Pause(now + length_s, length_s)
        return (pause.until - now) * (1 + random.uniform(0, _JITTER))  # noqa: S311

    def accepted(self, project: str) -> None:
        """A message went through: once no pause runs, the next one is a short one again."""
        pause = self._pauses.get(project)
        if pause is not None and self._clock() >= pause.until:
            del self._pauses[project]
