"""Runs the code blocks of docs/install-linux.md, with names and paths of the test put in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ens_project.env import BASE_DIR

PAGE = BASE_DIR / "docs" / "install-linux.md"
_BLOCK = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
_PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: of which part of the page, `sh` or a file's content, and where it goes."""

    part: str
    kind: str
    text: str
    file: str


def blocks(page: str) -> list[Block]:
    """All code blocks of a page, in order."""
    found, part, end = [], "", 0
    for match in _BLOCK.finditer(page):
        headings = re.findall(r"^## (.+)$", page[end : match.start()], re.M)
        part = headings[-1] if headings else part
        end = match.end()
        found.append(Block(part, match["kind"], match["text"], match["file"] or ""))
    return found


class Guide:
    """The page, block after block. `replaced`: what of it is different in the test."""

    def __init__(self, replaced: Mapping[str, str], stubs: Path) -> None:
        self._left = blocks(PAGE.read_text("utf-8"))
        self._replaced = dict(replaced)
        self._met: set[str] = set()
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("ENS_")}
        inherited.pop("DJANGO_SETTINGS_MODULE", None)
        self._environment = inherited | {
            "PATH": f"{stubs}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }

    def fill(self, text: str) -> str:
        """The text with the test's names and paths; where several fit, the longest."""
        olds = sorted(self._replaced, key=len, reverse=True)

        def new(found: re.Match[str]) -> str:
            self._met.add(found[0])
            return self._replaced[found[0]]

        return re.sub("|".join(map(re.escape, olds)), new, text)

    def do(self, part: str, more: str = "") -> str:
        """Do the next blocks, all of that part of the page; returns what they printed.

        `more` stands behind every command of `ens_install`, or before it where it is a table.
        """
        printed = []
        while self._left and self._left[0].part == part:
            printed.append(self._one(self._left.pop(0), more))
        assert printed, f"the page has no code blocks in «{part}», or not there"
        return "\n".join(printed)

    def next(self, more: str = "") -> str:
        """Do one block."""
        return self._one(self._left.pop(0), more)

    def is_through(self) -> bool:
        """Whether every block was done, and everything replaced stood there."""
        assert self._met == set(self._replaced), set(self._replaced) - self._met
        return not self._left

    def _one(self, block: Block, more: str) -> str:
        text = self.fill(block.text)
        if block.file:
            file = Path(self.fill(block.file))
            file.write_text(text, "utf-8")
            return ""
        assert block.kind == "sh", f"a block that nobody can run: {block}"
        if more:
            text = re.sub(r"(manage\.py ens_install[^\n]*)", rf"\1 {more}", text)
        return run(text, self._environment)


def run(script: str, environment: Mapping[str, str]) -> str:
    """Run a script as an administrator's shell does, but to its first failure."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout
