"""A run that ends anywhere, and is started again, leaves the same as one that went through."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.lab.ca import LabCa
from apps.operations.install import linux, main, runner
from apps.operations.install.answers import make
from apps.operations.install.runner import Completed
from apps.operations.install.steps import Plan, StepFailed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Linux only")

LINK = "https://ens.example.com/MailNotificationService/api/ens"


class World:
    """Does what the management commands do to files; the database is two more of them."""

    def __init__(self, root: Path) -> None:
        self._data = root / "var/lib/ens"

    def run(
        self,
        argv: Sequence[str],
        input: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Completed:
        """See Runner."""
        words, named = list(argv)[2:], environment or {}
        tables, first = self._data / "tables", self._data / "first"
        match words[:2]:
            case ["ens_master_key"]:
                Path(named["ENS_MASTER_KEY_FILE"]).write_text("k1:key")
            case ["cns_certificate"]:
                Path(named["ENS_CNS_KEY_FILE"]).write_text("pem")
            case ["migrate", "--check"]:
                return Completed(0 if tables.exists() else 1)
            case ["migrate", _]:
                tables.touch()
            case ["ens_first", "--check"]:
                return Completed(0, "[]" if first.exists() else '["token"]')
            case ["ens_first", _]:
                assert tables.exists() and input == "correct horse battery 9\n"
                first.touch()
            case _:
                raise AssertionError(words)
        return Completed(0)


def given(root: Path) -> dict[str, Any]:
    (root.parent / "admin.txt").write_text("correct horse battery 9")
    files = LabCa(root.parent).issue("tls", ["ens.example.com"])
    return {
        "accept_license": "yes",
        "link_address": LINK,
        "cns.url": "https://cns.example.com",
        "components": "web,worker,beat",
        "root": str(root),
        "service.manager": "none",
        "database.kind": "sqlite",
        "tls.certificate_file": str(files.certificate),
        "tls.key_file": str(files.key),
        "administrator.password_file": str(root.parent / "admin.txt"),
    }


def files_in(root: Path) -> dict[str, int]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.stat().st_mode for path in found}


class Ends:
    """A step at which a run ends, before it did anything or right after."""

    def __init__(self, step: Any, *, after: bool) -> None:
        self._step, self._after = step, after
        self.title = step.title

    def needed(self) -> bool:
        return bool(self._step.needed())

    def describe(self) -> str:
        return str(self._step.describe())

    def apply(self) -> None:
        if self._after:
            self._step.apply()
        raise StepFailed("ended", "here")


def test_wherever_it_ends(tmp_path: Path) -> None:
    whole = tmp_path / "whole" / "tree"
    whole.parent.mkdir()
    said: list[str] = []
    assert main.install(main.Wish(first=True), given(whole), World(whole), said.append)
    expected, ended = files_in(whole), 0
    number = len(linux.plan(make(given(whole)), World(whole), None).steps)
    for index in range(number):
        for after in (False, True):
            root = tmp_path / f"{index}-{after}" / "tree"
            root.parent.mkdir()
            answers, world = make(given(root)), World(root)
            plan = linux.plan(answers, world, None)
            steps = list(plan.steps)
            steps[index] = Ends(steps[index], after=after)
            try:
                runner.apply(Plan((), steps), said.append)
            except StepFailed:
                ended += 1
            drawn = [root / "etc/ens/ens.env", root / "etc/ens/master.key"]
            before = {file: file.read_bytes() for file in drawn if file.exists()}
            runner.apply(linux.plan(answers, world, None), said.append)
            assert files_in(root) == expected
            # What was drawn at random is not drawn again.
            assert {file: file.read_bytes() for file in before} == before
            assert runner.apply(linux.plan(answers, world, None), said.append) == 0
    assert ended >= 2 * (number - 2)
