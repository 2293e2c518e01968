from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.vault.management.commands import ens_master_key
from apps.vault.master import MasterKeys
from tests.vault import processes


def test_a_new_deployment_makes_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    output = processes.run(tmp_path, "manage.py", "ens_master_key", ENS_MASTER_KEY_FILE=str(path))
    made = MasterKeys.load(path)
    assert str(path) in output
    assert made.current_id in output
    assert len(made.keys[made.current_id]) == 32
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    line = path.read_text().splitlines()[-1]
    assert line.partition(":")[2] not in output


def test_an_existing_file_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text("precious")
    process = processes.start(
        tmp_path, "manage.py", "ens_master_key", ENS_MASTER_KEY_FILE=str(path)
    )
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == f"CommandError: {path} exists already; it was not touched\n"
    assert path.read_text() == "precious"


def test_a_place_that_takes_no_file_is_said_in_one_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    process = processes.start(
        tmp_path, "manage.py", "ens_master_key", ENS_MASTER_KEY_FILE=str(blocker / "master.key")
    )
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1


def test_two_keys_are_never_the_same(
    tmp_path: Path, settings: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    for name in ("a", "b"):
        settings.ENS = settings.ENS.model_copy(update={"master_key_file": tmp_path / name})  # type: ignore[attr-defined]
        call_command("ens_master_key")
        made.append(next(iter(MasterKeys.load(tmp_path / name).keys.values())))
    assert made[0] != made[1]
    with pytest.raises(CommandError, match="exists already"):
        call_command("ens_master_key")
    capsys.readouterr()


def test_the_access_list_is_narrowed_to_sids_and_the_maker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What icacls would be told; only Windows has one to tell it to."""
    told: list[list[str]] = []
    real_run = subprocess.run

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        told.append(command)
        return real_run([sys.executable, "-c", "raise SystemExit(len(__import__('sys').argv) - 1)"])

    monkeypatch.setattr(ens_master_key.subprocess, "run", run)
    assert ens_master_key._narrow_acl(tmp_path)
    assert told[0][:4] == ["icacls", str(tmp_path), "/inheritance:r", "/grant:r"]
    assert told[0][-2:] == ["*S-1-5-18:F", "*S-1-5-32-544:F"]


def test_without_icacls_the_failure_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ens_master_key._narrow_acl(tmp_path)
