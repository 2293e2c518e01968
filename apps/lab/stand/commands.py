"""Runs several management commands in one process: most of a command's time is Django's start.

Reads a JSON list of command lines from standard input, runs them in order with the settings that
`ENS_ENV_FILE` names, and prints a JSON list of what each wrote.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A management command failed; the message is what it said."""


def run(lines: Sequence[Sequence[str]], environment: Mapping[str, str], root: Path) -> list[str]:
    """Run management commands in a process of their own; returns what each printed.

    Raises:
        CommandFailed: one of them did; those after it were not run.
    """
    printed = run_module("apps.lab.stand.commands", json.dumps(lines), environment, root)
    found: list[str] = json.loads(printed.splitlines()[-1])
    return [text.strip() for text in found]


def run_module(module: str, text: str, environment: Mapping[str, str], root: Path) -> str:
    """Run `python -m module` with `text` on its standard input; returns what it printed.

    Raises:
        CommandFailed: it did not end with 0.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=root,
        env=dict(environment),
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(done.stderr.strip())
    return done.stdout


def main() -> None:
    import django
    from django.core.management import CommandError, call_command

    lines = json.load(sys.stdin)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")
    django.setup()
    printed = []
    for name, *arguments in lines:
        out = io.StringIO()
        try:
            call_command(name, *arguments, stdout=out)
        except CommandError as error:
            raise SystemExit(f"{name}: {error}") from None
        printed.append(out.getvalue())
    print(json.dumps(printed))


if __name__ == "__main__":
    main()
