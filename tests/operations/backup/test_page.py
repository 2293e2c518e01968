"""Every command of docs/backup.md, as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.operations.backup.deployment import ROOT, Deployment

PAGE = (ROOT / "docs" / "backup.md").read_text("utf-8")
RUN = """
import os
os.chdir(facts["home"])
if facts["fill"]:
    fill()
answer = []
for words in facts["commands"]:
    added = answer[0].split()[0] if answer else ""
    answer.append(run(*[added if word == "KEY" else word for word in words]))
"""


def commands(title: str) -> list[list[str]]:
    part = PAGE.partition(f"## {title}")[2].partition("\n## ")[0]
    return [shlex.split(line)[2:] for line in re.findall(r"(?m)^ *(python manage.py .*)$", part)]


@pytest.mark.slow
def test_the_page_works(blank: Deployment, tmp_path: Path) -> None:
    old = Deployment(tmp_path / "old", like=blank)
    new = Deployment(tmp_path / "new", like=blank)
    (tmp_path / "backup-password.txt").write_text("Wild geese over 7 lakes\n")
    (tmp_path / "revocations.jsonl").write_text("")
    known = {"home": str(tmp_path)}
    said = old.inside(RUN, fill=True, commands=commands("Back up"), **known)
    # The migration is what `blank` has seen.
    (migrate, restore) = commands("Restore")
    assert migrate == ["migrate"]
    said += new.inside(RUN, fill=False, commands=[restore], **known)
    rest = [*commands("A new master key"), *commands("After a leak")]
    assert [words[0] for words in rest] == ["ens_rewrap"] * 5 + ["ens_rekey"]
    said += new.inside(RUN, fill=False, commands=rest, **known)
    assert len(said) == 8
    assert not [text for text in said if text.startswith("refused")]
