"""Files: whole or not at all, with the rights asked for; programs copied without lab and tests."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

import pytest

from apps.operations.install import files
from apps.operations.install.files import Directory, File, Gone, Programs, Rights
from apps.operations.install.steps import StepFailed

posix = pytest.mark.skipif(sys.platform == "win32", reason="Linux only")


@posix
def test_a_file_is_needed_until_content_and_rights_are_right(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    step = File("It", path, lambda: b"content", Rights(0o640, getpass.getuser()))
    assert step.needed()
    step.apply()
    assert not step.needed()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"content", 0o640)
    path.chmod(0o644)
    assert step.needed()
    step.apply()
    path.write_bytes(b"other")
    assert step.needed()
    step.apply()
    assert not step.needed() and path.read_bytes() == b"content"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@posix
def test_what_is_kept_gets_its_rights_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "key"
    step = File("Key", path, lambda: b"new", Rights(0o600), keep=True)
    path.write_bytes(b"old")
    path.chmod(0o644)
    step.apply()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"old", 0o600)
    assert not step.needed()


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StepFailed) as failed:
        files.write(path, b"new", Rights(0o600))
    assert failed.value.code == "file_not_written"
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@posix
def test_an_account_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="LookupError"):
        Directory(tmp_path / "d", Rights(0o700, "no-such-account-here")).apply()
    assert str(Rights(0o700, "root", "ens")) == "0700, root:ens"


@posix
def test_a_link_among_what_the_service_owns_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root's")
    (tmp_path / "key").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        files.read_own(tmp_path / "key")
    assert files.read_own(tmp_path / "secret") == b"root's"


def test_programs_are_those_of_a_release(tmp_path: Path) -> None:
    source, location = tmp_path / "from", tmp_path / "to"
    kept = ["manage.py", "apps/vault/master.py", "deploy/linux/ens.target.in", "docs/lab.md"]
    left = ["apps/lab/demo.py", "tests/x.py", "var/x", "apps/vault/__pycache__/x.pyc", "dev.py"]
    for name in kept + left:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    step = Programs(source, location)
    assert step.needed()
    step.apply()
    there = {path.relative_to(location).as_posix() for path in location.rglob("*")}
    assert set(kept) <= there and not set(left) & there
    assert not step.needed()
    assert not Programs(source, source).needed()
    (source / "manage.py").write_text("a later release")
    assert step.needed()


def test_what_shall_be_gone_is_named_and_removed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").touch()
    step = Gone("It", [tmp_path / "d", tmp_path / "none"])
    assert step.describe() == f"remove {tmp_path / 'd'}"
    step.apply()
    assert not step.needed()
