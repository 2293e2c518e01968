"""The directory of `run` and `lab`: made anew each time, never shared by two at once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import psutil

MARK = "ens-stand.json"


class HomeTaken(Exception):
    """The directory can't be used; the message says why."""


def take(path: Path) -> Path:
    """Take `path` for this process; returns the directory to use, which doesn't exist yet.

    What an earlier run left there is removed; the logs of this one stay until the next.

    Raises:
        HomeTaken: the path isn't ours, or another run uses it now.
    """
    if path.exists():
        _clear(path)
    path.mkdir(parents=True)
    mark = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    (path / MARK).write_text(json.dumps(mark), "utf-8")
    return path / "stand"


def _clear(path: Path) -> None:
    try:
        mark = json.loads((path / MARK).read_text("utf-8"))
        used = psutil.Process(mark["pid"]).create_time() == mark["started"]
    except psutil.NoSuchProcess:
        used = False
    except (OSError, ValueError, KeyError):
        raise HomeTaken(f"{path} was not made by this command; move it away") from None
    if used:
        raise HomeTaken(f"it runs already (process {mark['pid']}); stop that one first")
    shutil.rmtree(path)
