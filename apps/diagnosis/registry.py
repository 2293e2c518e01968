"""The register of checks. A room registers its own when it is set up (`AppConfig.ready`).

A check is a function that takes a `Context` and yields `Step`s; it asks others only through the
address guard, ends by itself within seconds, and says nothing secret: neither a credential nor an
address of a person stands in a step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from apps.vault.redact import where

log = logging.getLogger(__name__)

Status = Literal["ok", "warning", "failed", "skipped"]
_WORST: Final[dict[Status, int]] = {"skipped": 0, "ok": 1, "warning": 2, "failed": 3}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried: what was found, and where it isn't well, what to do about it."""

    name: str
    status: Status
    detail: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a diagnosis is about.

    `og_paths`: the tree paths of the organization groups whose mail systems may be looked at, with
    what is below them; None for all, and only then is the deployment itself looked at. With
    `mail_system` (a primary key) only that one is. `address`, `username` and `password` are of a
    test mailbox, for the checks that sign in; they are used once and kept nowhere.
    """

    og_paths: tuple[str, ...] | None = None
    mail_system: int | None = None
    address: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


Run = Callable[[Context], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Check:
    """A registered check. One that is `deployment_wide` is run for those only who see all."""

    name: str
    title: str
    area: str
    deployment_wide: bool
    run: Run


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check, and how long it took."""

    check: Check
    steps: tuple[Step, ...]
    seconds: float

    @property
    def status(self) -> Status:
        """The worst of its steps."""
        return max((step.status for step in self.steps), key=_WORST.__getitem__, default="skipped")


_checks: dict[str, Check] = {}


def check(
    name: str, *, title: str, area: str, deployment_wide: bool = True
) -> Callable[[Run], Run]:
    """Register a function as the check `name` (`<area>.<what>`), which people know as `title`.

    Raises:
        ValueError: another function has this name already.
    """

    def register(run: Run) -> Run:
        known = _checks.get(name)
        if known is not None and known.run is not run:
            raise ValueError(f"{name}: there is a check of this name already")
        _checks[name] = Check(name, title, area, deployment_wide, run)
        return run

    return register


def checks(area: str | None = None) -> list[Check]:
    """All registered checks, or those of one area, in the order of their registration."""
    return [one for one in _checks.values() if area is None or one.area == area]


def areas() -> list[str]:
    """The areas of which there are checks."""
    return list(dict.fromkeys(one.area for one in _checks.values()))


def run_each(area: str | None = None, context: Context | None = None) -> Iterator[Finding]:
    """Run the checks one after the other; each finding as soon as it is there.

    A check that fails itself is a finding too: where in the code, never with the error's text.
    """
    context = context or Context()
    for one in checks(area):
        began = time.monotonic()
        if one.deployment_wide and context.og_paths is not None:
            continue
        steps: list[Step] = []
        try:
            steps.extend(one.run(context))
        except Exception as error:  # noqa: BLE001 - one check must not stop the others
            log.error("check %s failed itself: %s", one.name, where(error))
            steps.append(
                Step("check", "failed", where(error), "The check itself failed; see the log.")
            )
        yield Finding(one, tuple(steps), time.monotonic() - began)


def run(area: str | None = None, context: Context | None = None) -> list[Finding]:
    """The same, all at once."""
    return list(run_each(area, context))


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status of several findings; `skipped` when there is none."""
    return max((one.status for one in findings), key=_WORST.__getitem__, default="skipped")
