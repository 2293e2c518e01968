"""Files of the commands: passwords read, new files made, and nothing of anybody's overwritten."""

from __future__ import annotations

import os
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError


def password(file: Path | None, *, twice: bool = False) -> str:
    """The first line of a file; without one it is asked for (`twice` for a new password).

    Raises:
        CommandError: the file can't be read, or the two differ.
    """
    if file is not None:
        lines = read(file, 65_536).decode("utf-8-sig", "replace").splitlines()
        return lines[0] if lines else ""
    typed = getpass("Password: ")
    if twice and getpass("Once more: ") != typed:
        raise CommandError("the two passwords differ")
    return typed


def read(file: Path, most: int) -> bytes:
    """The first `most` bytes of a file and one more.

    Raises:
        CommandError: it can't be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(most + 1)
    except OSError as error:
        raise CommandError(f"{file} can't be read ({type(error).__name__})") from None


def new(file: Path) -> Any:
    """A new file, readable by this account only; an existing one is never touched.

    Raises:
        CommandError: it exists, or can't be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
    except FileExistsError:
        raise CommandError(f"{file} exists already; it was not touched") from None
    except OSError as error:
        raise CommandError(f"{file} can't be made ({type(error).__name__})") from None
