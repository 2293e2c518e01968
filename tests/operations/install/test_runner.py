"""Running a plan: repeatable, resumable, and a dry run that changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from apps.operations.install import runner
from apps.operations.install.runner import Completed, SystemRunner
from apps.operations.install.steps import Check, Plan, StepFailed


@dataclass
class FileStep:
    """Makes a file."""

    path: Path
    fails: bool = False
    title: str = field(init=False)

    def __post_init__(self) -> None:
        self.title = f"Make {self.path.name}"

    def needed(self) -> bool:
        return not self.path.exists()

    def describe(self) -> str:
        return f"write {self.path.name}"

    def apply(self) -> None:
        if self.fails:
            raise StepFailed("disk_full", "Make room and run again")
        self.path.touch()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def say(lines: list[str]) -> Callable[[str], None]:
    return lines.append


def test_a_failed_run_is_resumed_where_it_ended(
    tmp_path: Path, say: Callable[[str], None], lines: list[str]
) -> None:
    steps = [FileStep(tmp_path / "one"), FileStep(tmp_path / "two", fails=True)]
    steps.append(FileStep(tmp_path / "three"))
    with pytest.raises(StepFailed) as failed:
        runner.apply(Plan((), steps), say)
    assert failed.value.code == "disk_full"
    assert {path.name for path in tmp_path.iterdir()} == {"one"}
    steps[1].fails = False
    lines.clear()
    assert runner.apply(Plan((), steps), say) == 2
    assert lines[0].endswith("Make one: no change")
    assert runner.apply(Plan((), steps), say) == 0


def test_a_dry_run_says_and_does_not(
    tmp_path: Path, say: Callable[[str], None], lines: list[str]
) -> None:
    steps = [FileStep(tmp_path / "one"), FileStep(tmp_path / "two")]
    steps[0].apply()
    assert runner.dry_run(Plan((), steps), say) == 1
    assert not (tmp_path / "two").exists()
    assert any("write two" in line for line in lines)


def test_the_first_check_that_fails_ends_it(say: Callable[[str], None], lines: list[str]) -> None:
    def refuse() -> str:
        raise StepFailed("license", "Accept the licence")

    with pytest.raises(StepFailed, match="Accept"):
        runner.check(Plan([Check("One", lambda: "fine"), Check("Two", refuse)], ()), say)
    assert lines == ["  ok       One: fine"]


def test_programs_get_no_shell_and_none_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENS_MASTER_KEY_FILE", "elsewhere")
    code = (
        "import os, sys; print([n for n in os.environ if n[:4] == 'ENS_'], sys.argv[1:], input())"
    )
    done = SystemRunner().run(
        [sys.executable, "-c", code, "a b", "$(id)"], "größer", environment={"ENS_ENV_FILE": "x"}
    )
    assert done.out.strip() == "['ENS_ENV_FILE'] ['a b', '$(id)'] größer"
    assert done.ok
    assert "größer" not in repr(done)


def test_a_program_that_is_not_there_is_no_traceback() -> None:
    done = SystemRunner().run(["no-such-program-anywhere"])
    assert (done.code, done.ok) == (127, False)
    with pytest.raises(StepFailed) as failed:
        runner.must(done, "missing", "Install it")
    assert failed.value.code == "missing"
    assert "Install it: no-such-program-anywhere: FileNotFoundError" in str(failed.value)
    assert Completed(3).last_words() == "it ended with 3"
