"""Skips are loud: a pytest plugin that fails the run for a skip nobody agreed to.

`tests/expected_skips.txt` names the reasons that are agreed, and where. All skips are listed at
the end of the run, agreed or not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EXPECTED = Path(__file__).with_name("expected_skips.txt")
PLACES = ("local", "anywhere")


@dataclass(frozen=True)
class Rule:
    """One agreed reason: tests may be skipped for what begins with `reason`, at `place`."""

    place: str
    reason: str

    def allows(self, reason: str, in_ci: bool) -> bool:
        return reason.startswith(self.reason) and (self.place == "anywhere" or not in_ci)


def read_rules(lines: Iterable[str]) -> list[Rule]:
    """The rules of `expected_skips.txt`.

    Raises:
        ValueError: a line is neither empty, a comment, nor a place and a reason.
    """
    rules = []
    for line in lines:
        place, _, reason = line.strip().partition(" ")
        if not place or place.startswith("#"):
            continue
        if place not in PLACES or not reason.strip():
            raise ValueError(f"{EXPECTED.name}: not a place and a reason: {line.strip()!r}")
        rules.append(Rule(place, reason.strip()))
    return rules


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@dataclass(eq=False)
class Skips:
    """What this run skipped, by reason."""

    rules: list[Rule]
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            # A skipped report's longrepr is (file, line, "Skipped: <reason>").
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else "no reason given"
            self.reasons[text.removeprefix("Skipped: ")] += 1

    def unexpected(self) -> list[str]:
        return [
            reason
            for reason in self.reasons
            if not any(rule.allows(reason, in_ci()) for rule in self.rules)
        ]

    # --- pytest's hooks ---

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.count(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.reasons:
            return
        terminalreporter.section("SKIPPED TESTS", sep="!", yellow=True, bold=True)
        for reason, times in sorted(self.reasons.items()):
            terminalreporter.line(f"  {times:4} x {reason}", yellow=True)
        for reason in self.unexpected():
            terminalreporter.line(
                f"NOT AGREED {'in CI' if in_ci() else 'here'}: {reason!r} is not in "
                f"tests/{EXPECTED.name}; this run has failed",
                red=True,
                bold=True,
            )


def pytest_configure(config: pytest.Config) -> None:
    rules = read_rules(EXPECTED.read_text("utf-8").splitlines())
    config.pluginmanager.register(Skips(rules), "ens-skips")
