"""The run fails for a skip that tests/expected_skips.txt doesn't name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).resolve().parent.parent
TEST = """
import pytest

def test_one():
    pytest.skip({reason!r})

@pytest.mark.xfail
def test_two():
    assert False
"""


def run(directory: Path, reason: str, **environment: str) -> subprocess.CompletedProcess[str]:
    test = directory / "test_it.py"
    test.write_text(TEST.format(reason=reason))
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-c", os.devnull, str(test)],
        cwd=ROOT,
        env=inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_agreed_skip_passes_and_is_printed(tmp_path: Path) -> None:
    done = run(tmp_path, "no Chromium on this machine")
    assert done.returncode == 0, done.stdout
    assert "1 x no Chromium on this machine" in done.stdout


def test_an_unknown_skip_fails_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, "I did not feel like it")
    assert done.returncode == 1
    assert "NOT AGREED here: 'I did not feel like it'" in done.stdout


def test_ci_does_not_take_a_local_excuse(tmp_path: Path) -> None:
    done = run(tmp_path, "no Chromium on this machine", CI="true")
    assert done.returncode == 1
    assert "NOT AGREED in CI" in done.stdout


@pytest.mark.parametrize("line", ["sometimes no Chromium", "local", "local   "])
def test_a_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a place and a reason"):
        skips.read_rules([line])


def test_comments_and_empty_lines_are_no_rules() -> None:
    assert skips.read_rules(["", "# local x", "anywhere  not on Windows"]) == [
        skips.Rule("anywhere", "not on Windows")
    ]
