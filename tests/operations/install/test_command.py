"""The command line: options win over the file, nothing secret on it, one clear line for a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.operations.install import main
from ens_project.env import BASE_DIR

LINK = "https://ens.example.com/MailNotificationService/api/ens"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
    return subprocess.run(
        [sys.executable, "manage.py", "ens_install", *words],
        cwd=BASE_DIR,
        env=clean | {"ENS_ENV_FILE": "there-is-no-such-file.env"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_needs_no_settings_to_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(f'link_address = "{LINK}"\n[database]\npassword = "in clear"\n')
    done = run("--first", "--answers", str(file))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "CommandError: database.password is a secret: write it to a file, and name it "
        "database.password_file"
    )


def test_every_answer_is_an_option_and_secrets_are_files() -> None:
    said = run("--help").stdout
    for option in ("--database-host", "--database-password-file", "--config-xml", "--setting"):
        assert option in said
    assert "--database-password " not in said and "--root " in said


def test_options_win_and_add_to_the_files_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "answers.toml"
    file.write_text(
        f'link_address = "{LINK}"\n[database]\nhost = "one"\n[settings]\nENS_AUDIT_DAYS = 90\n'
    )
    seen = {}
    monkeypatch.setattr(main, "install", lambda wish, given, *_: seen.update(given) or True)
    more = {"setting": ["ENS_LOG_LEVEL=ERROR", "ENS_X=a=b"], "database.host": "two"}
    call_command("ens_install", first=True, answers=file, **more)
    assert seen["database.host"] == "two"
    settings = {"ENS_AUDIT_DAYS": 90, "ENS_LOG_LEVEL": "ERROR", "ENS_X": "a=b"}
    assert seen["settings"] == settings
    with pytest.raises(CommandError, match="NAME=VALUE"):
        call_command("ens_install", first=True, setting=["nonsense"])


def test_an_interrupted_run_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "install", interrupted)
    with pytest.raises(CommandError, match="run it again"):
        call_command("ens_install", first=True)


def test_a_failed_diagnosis_is_told_from_a_failed_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main, "install", lambda *_: False)
    with pytest.raises(SystemExit) as ended:
        call_command("ens_install", first=True)
    assert ended.value.code == 3
