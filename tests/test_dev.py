"""dev.py as somebody meets it who has just cloned the project."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def call(*words: str, script: Path = ROOT / "dev.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """dev.py and the requirements alone, in a directory of their own."""
    kinds = ("", "-lab", "-dev")
    for name in ("dev.py", *(f"requirements{kind}.txt" for kind in kinds)):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path / "dev.py"


@pytest.fixture
def dev(clone: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev_under_test", clone)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("words", [[], ["fly"], ["run", "test"]])
def test_an_unknown_command_gets_the_usage(words: list[str]) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert "usage: python dev.py" in done.stderr


def test_help_is_no_mistake() -> None:
    done = call("help")
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_an_unknown_switch_is_named() -> None:
    done = call("demo", "MAIL=20")
    assert done.returncode == 2
    known = "MAILS, JSON, SEED, SECONDS, SUBSCRIPTIONS, WAKEUPS, PUSHES, REPEATS"
    assert done.stderr.strip() == f"dev.py: MAIL is not a switch; known are {known}"


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_gets_one_clear_line(
    dev: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: str,
) -> None:
    monkeypatch.setattr(dev, "_importable", lambda name: name != module)
    assert dev.main(["run"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "apt install python3-venv" in lines[0]
    assert not dev.VENV.exists()


def test_something_else_called_venv_is_left_alone(clone: Path) -> None:
    precious = clone.parent / ".venv" / "precious"
    precious.parent.mkdir()
    precious.write_text("x")
    done = call("run", script=clone)
    assert done.returncode == 2
    assert "is in the way" in done.stderr
    assert precious.exists()


def test_requirements_are_installed_once_and_again_when_they_change(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        installed.append(Path(command[-1]).name)
        return subprocess.CompletedProcess(command, 0)

    dev.VENV.mkdir()
    monkeypatch.setattr(dev, "_make_venv", lambda: None)
    monkeypatch.setattr(dev.subprocess, "run", pip)

    dev._install("requirements-lab.txt")
    dev._install("requirements-lab.txt")
    assert installed == ["requirements-lab.txt"]
    dev._install("requirements-dev.txt")
    dev._install("requirements-lab.txt")
    assert installed == ["requirements-lab.txt", "requirements-dev.txt"]
    with (dev.HERE / "requirements.txt").open("a") as file:
        file.write("another==1.0\n")
    dev._install("requirements-lab.txt")
    assert installed[2:] == ["requirements-lab.txt"]
