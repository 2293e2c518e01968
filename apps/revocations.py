"""The list of blocks and revocations beside the database: what a restore must not undo.

A backup is as old as it is; who was blocked or forgotten since, and what was revoked, must stay so.
Each server therefore appends every such thing to `revocations.jsonl` in its `ENS_DATA_DIR`, a line
of JSON each, and `ens_restore` replays them (operations/backup). It holds HMACs, hashes, numbers
and tree paths, and nothing that says who somebody is.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from django.conf import settings
from django.db import transaction

log = logging.getLogger(__name__)

FILE_NAME: Final = "revocations.jsonl"
_LONGEST_LINE: Final = 2000

What = Literal[
    "block",
    "unblock",
    "forget",
    "api_token",
    "admin_token",
    "secure_channel",
    "relay_deployment",
]
# Which facts a line of each kind has, all of them texts.
_FACTS: Final[dict[str, frozenset[str]]] = {
    "block": frozenset({"kind", "value", "scope", "reason"}),
    "unblock": frozenset({"kind", "value", "scope"}),
    "forget": frozenset({"user", "mail_system"}),
    "api_token": frozenset({"hash"}),
    "admin_token": frozenset({"hash"}),
    "secure_channel": frozenset({"thumbprint"}),
    "relay_deployment": frozenset({"thumbprint"}),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A block or revocation, with the time at which it was committed."""

    at: datetime
    what: What
    facts: dict[str, str]


def file() -> Path:
    """Where this server keeps its list."""
    path: Path = settings.ENS.data_dir / FILE_NAME
    return path


def note(what: What, **facts: str) -> None:
    """Append a line once the transaction at hand is committed.

    A list that can't be written (a full disk) is an error in the log and stops no block.
    """
    transaction.on_commit(lambda: _append(what, facts), robust=True)


def read(path: Path) -> tuple[list[Entry], int]:
    """The entries of a list, and how many lines are none (one torn by a crash, at the most).

    Raises:
        OSError: it can't be read.
    """
    entries, torn = [], 0
    with path.open("rb") as lines:
        while line := lines.readline(_LONGEST_LINE):
            found = _entry(line)
            if found is not None:
                entries.append(found)
            elif line.strip():
                torn += 1
    return entries, torn


def _append(what: What, facts: dict[str, str]) -> None:
    line = {"v": 1, "at": datetime.now(UTC).isoformat(), "what": what, **facts}
    content = json.dumps(line).encode() + b"\n"
    try:
        with file().open("a+b", buffering=0) as opened, _locked(opened.fileno()):
            # After a line that a crash has torn, on a line of its own.
            if opened.seek(0, os.SEEK_END) and not _ends_well(opened):
                content = b"\n" + content
            opened.write(content)
            os.fsync(opened.fileno())
    except OSError as error:
        log.error("%s can't be written (%s): %s is not on it", file(), type(error).__name__, what)


def _ends_well(opened: Any) -> bool:
    opened.seek(-1, os.SEEK_END)
    return bool(opened.read(1) == b"\n")


def _entry(line: bytes) -> Entry | None:
    try:
        content = json.loads(line)
        at = datetime.fromisoformat(content.pop("at"))
        version, what = content.pop("v"), content.pop("what")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    known = _FACTS.get(what) if isinstance(what, str) else None
    texts = all(isinstance(value, str) for value in content.values())
    if version != 1 or known != content.keys() or not texts or at.tzinfo is None:
        return None
    return Entry(at, what, content)


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Processes append one after the other: on Windows two appends at once may overwrite."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        try:
            yield
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)  # given up when the file is closed
        yield
