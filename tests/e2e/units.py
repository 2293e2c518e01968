"""Runs systemd's unit files without systemd: what they say is started, as they say it.

The environment is what a service has: nothing but what the unit names. User and hardening are not
applied, for that takes systemd; it is `systemd-analyze` that reads those.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from apps.lab.stand.child import Program

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def system_program(name: str) -> str:
    """Where a program of the system is; skips the test where it isn't installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def lines(file: Path, name: str) -> list[str]:
    """The values of a unit's directive, in order."""
    found = []
    for line in file.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            found.append(value.strip())
    return found


def words(value: str, instance: str = "") -> list[str]:
    """A value as systemd takes it apart (systemd.service): quotes, `%i`, `%%`, `$$`."""
    found = []
    for word in shlex.split(value):
        assert "$" not in word.replace("$$", ""), f"a variable: {word}"
        parts = [part.replace("%i", instance).replace("$$", "$") for part in word.split("%%")]
        found.append("%".join(parts))
    return found


def program(file: Path, logs: Path, instance: str = "") -> Program:
    """What the unit's ExecStart starts."""
    (command,) = lines(file, "ExecStart")
    (directory,) = lines(file, "WorkingDirectory")
    environment = {"PATH": _PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    for line in lines(file, "Environment"):
        environment |= dict(word.split("=", 1) for word in words(line, instance))
    name = file.name.removesuffix(".service").rstrip("@") + instance
    where = Path(directory.replace("%%", "%"))
    return Program(name, words(command, instance), environment, where, logs / f"{name}.log")
