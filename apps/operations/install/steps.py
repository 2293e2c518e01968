"""What an installation is made of: steps, each of which looks at the system before it acts.

A step remembers nothing. Whether it is needed is seen from the system itself, so that a run may be
repeated, and one that failed may be resumed, however it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class StepFailed(Exception):
    """A step or a check came to nothing.

    `code` is stable; `advice` is one line for the administrator, without secrets.
    """

    def __init__(self, code: str, advice: str) -> None:
        super().__init__(f"{advice} ({code})")
        self.code = code
        self.advice = advice


class Step(Protocol):
    """One thing that is so afterwards. All three may raise StepFailed."""

    @property
    def title(self) -> str:
        """What it does, for people: `Write ens.env`."""

    def needed(self) -> bool:
        """Whether the system isn't so yet; changes nothing."""

    def describe(self) -> str:
        """What `apply` would do: files and commands, without secrets."""

    def apply(self) -> None:
        """Make it so; as far as possible wholly or not at all."""


@dataclass(frozen=True, slots=True)
class Check:
    """What is looked at before anything is changed: `run` returns what it found, for people.

    `run` raises StepFailed where the installation could not succeed.
    """

    title: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Checks, and then steps, in their order."""

    checks: Sequence[Check]
    steps: Sequence[Step]
