"""Runs a plan, and is the one way in which the installer starts other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from apps.operations.install.steps import Plan, StepFailed

_PATIENCE_S: Final = 600.0
_LAST_LINES: Final = 8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, and what it wrote. What it wrote may hold a secret."""

    code: int
    out: str = field(default="", repr=False)
    error: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    def last_words(self) -> str:
        """The end of what it complained of, in one line."""
        lines = [line.strip() for line in (self.error or self.out).splitlines() if line.strip()]
        return " / ".join(lines[-_LAST_LINES:]) or f"it ended with {self.code}"


class Runner(Protocol):
    """Starts programs; tests record what they are given."""

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """Run a program to its end. `environment` is added to a clean one.

        A program that isn't there, or takes longer than ten minutes, ends with 127.
        """


class SystemRunner:
    """The real one. No shell; none of ENS's settings in the environment go along."""

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """See Runner."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
        clean.pop("DJANGO_SETTINGS_MODULE", None)
        try:
            done = subprocess.run(  # noqa: S603 - a list, from plain functions
                list(argv),
                input=(input or "").encode(),
                capture_output=True,
                env=clean | {"PYTHONUTF8": "1"} | dict(environment or {}),
                cwd=directory,
                timeout=_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Completed(127, "", f"{argv[0]}: {type(error).__name__}")
        return Completed(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(written: bytes) -> str:
    """What a program wrote: ours write UTF-8, Windows' own the code page of its consoles."""
    try:
        text = written.decode()
    except UnicodeDecodeError:
        text = written.decode("oem" if sys.platform == "win32" else "utf-8", "replace")
    return text.replace("\r\n", "\n")


def must(done: Completed, code: str, advice: str) -> Completed:
    """What a program wrote, if it ended well.

    Raises:
        StepFailed: `code`, with `advice` and the program's last words.
    """
    if not done.ok:
        raise StepFailed(code, f"{advice}: {done.last_words()}")
    return done


def check(plan: Plan, say: Say) -> None:
    """Look at everything that can be looked at before anything is changed.

    Raises:
        StepFailed: the first check that found a reason not to begin.
    """
    for one in plan.checks:
        say(f"  ok       {one.title}: {one.run()}".rstrip(": "))


def dry_run(plan: Plan, say: Say) -> int:
    """Say what `apply` would do; returns how many steps are needed."""
    needed = 0
    for step in plan.steps:
        if not step.needed():
            say(f"  is so    {step.title}")
            continue
        needed += 1
        say(f"  to do    {step.title}")
        for line in step.describe().splitlines():
            say(f"             {line}")
    return needed


def apply(plan: Plan, say: Say) -> int:
    """Do what is needed, in order; returns how many steps changed something.

    Raises:
        StepFailed: the first step that failed. Run again, it begins there.
    """
    changed = 0
    for number, step in enumerate(plan.steps, 1):
        mark = f"  [{number}/{len(plan.steps)}] "
        if not step.needed():
            say(f"{mark}{step.title}: no change")
            continue
        say(f"{mark}{step.title} ...")
        step.apply()
        changed += 1
    return changed
