"""Every command of docs/running.md, run as written on an empty installation."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ens_project.env import BASE_DIR

PAGE = (BASE_DIR / "docs" / "running.md").read_text("utf-8")


def blocks(part: str) -> list[str]:
    """The fenced blocks of one part of the page, without their common indentation."""
    return [
        re.sub(r"(?m)^ {3}", "", block) if block.startswith("   ") else block
        for block in re.findall(r"(?s)```\n(.*?)\n *```", part)
    ]


def settings_in(part: str, home: Path) -> str:
    """The part's settings file, with random characters and paths filled in."""
    (lines,) = [block for block in blocks(part) if "ENS_SECRET_KEY" in block]
    filled = re.sub(r"<40 [a-z ]*>", "r" * 40, lines)
    return re.sub(r"(_FILE|_DIR)=(?:var/)?", rf"\1={home.as_posix()}/", filled) + "\n"


def commands_in(part: str) -> list[list[str]]:
    return [
        shlex.split(line)[1:]
        for block in blocks(part)
        for line in block.splitlines()
        if line.startswith("python manage.py")
    ]


def run_all(part: str, home: Path, replacements: dict[str, str]) -> None:
    home.mkdir()
    (home / "ens.env").write_text(settings_in(part, home), "utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
    data = {} if "ENS_DATA_DIR" in settings_in(part, home) else {"ENS_DATA_DIR": str(home)}
    for command in commands_in(part):
        words = [replacements.get(word, word) for word in command]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=BASE_DIR,
            env=clean | data | {"ENS_ENV_FILE": str(home / "ens.env")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)


def test_the_pages_commands_work_as_written(tmp_path: Path) -> None:
    ens, relay = PAGE.split("## Set up ENS")[1].split("## Set up the relay")
    password = tmp_path / "password.txt"
    password.write_text("correct horse battery 9\n")
    run_all(ens, tmp_path / "ens", {"admin-password.txt": str(password)})
    p8 = tmp_path / "AuthKey.p8"
    key = ec.generate_private_key(ec.SECP256R1())
    p8.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    found = {"cns.pem": str(tmp_path / "ens" / "cns.pem"), "AuthKey_ABC123DEFG.p8": str(p8)}
    run_all(relay.split("## Type into")[0], tmp_path / "relay", found)
    assert len(commands_in(ens)) == 7
    assert len(commands_in(relay)) == 4
