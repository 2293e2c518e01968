"""How log lines look: a line of text, or one JSON object a record (`ENS_LOG_FORMAT`).

Both write an exception as its type and place. Its text, and a traceback's source lines, may hold
what they are about: an address, a subject, a token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any, Final, TextIO

from apps import request_id
from apps.vault.redact import where

_CONTROL: Final = {number: f"\\x{number:02x}" for number in (*range(32), 127)}


def process_role() -> str:
    """What this process does: `worker`, `beat`, `web`, or the name of its management command."""
    words = [PurePath(word).name for word in sys.argv]
    program = PurePath(sys.argv[0])
    if program.stem == "celery" or program.parent.name == "celery":
        return next((word for word in words if word in ("worker", "beat")), "celery")
    if program.name == "manage.py" and len(words) > 1:
        return words[1]
    return "web"


class _Formatter(logging.Formatter):
    def parts(self, record: logging.LogRecord) -> dict[str, str]:
        """What both formats write. Control characters can't begin a line of their own."""
        found = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record).translate(_CONTROL),
        }
        if ids := request_id.current():
            found["request_id"] = ids
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            found["error"] = where(error)
        return found


class FolderHandler(logging.Handler):
    """A file for each process and day in `folder`, kept for `days` days: `web-2026-11-21-4711.log`.

    For Windows, where nobody collects standard error, and where a file that another process has
    open can't be renamed, so that several processes can't share and rotate one.
    """

    def __init__(self, folder: Path, days: int) -> None:
        super().__init__()
        self._folder = folder
        self._kept = timedelta(days=days)
        self._day = ""
        self._file: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line at once: a process that is killed leaves what it said."""
        try:
            now = datetime.fromtimestamp(record.created, UTC)
            if self._file is None or self._day != f"{now:%Y-%m-%d}":
                self._open(now)
            if self._file is not None:
                self._file.write(self.format(record) + "\n")
                self._file.flush()
        except Exception:  # noqa: BLE001 - a log line that can't be written must stop nobody
            self.handleError(record)

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _open(self, now: datetime) -> None:
        if self._file is not None:
            self._file.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._day = f"{now:%Y-%m-%d}"
        name = f"{process_role()}-{self._day}-{os.getpid()}.log"
        self._file = (self._folder / name).open("a", encoding="utf-8")
        oldest = (now - self._kept).timestamp()
        for old in self._folder.glob("*-????-??-??-*.log"):
            # Another process may remove it at this moment, or Windows may not let go of it yet.
            with contextlib.suppress(OSError):
                if old.stat().st_mtime < oldest:
                    old.unlink()


class LineFormatter(_Formatter):
    """For people: time, level, logger, request id, message, error."""

    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        ids = f" [{parts['request_id']}]" if "request_id" in parts else ""
        error = f" ({parts['error']})" if "error" in parts else ""
        head = f"{parts['timestamp']} {parts['level']} {parts['logger']}{ids}"
        return f"{head} {parts['message']}{error}"


class JsonFormatter(_Formatter):
    """For log collectors: one object a line, with the process's role too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._role = process_role()

    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record) | {"role": self._role}
        return json.dumps(parts, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    """The message; of Celery's failed tasks without the error's text, which it would repeat."""
    if record.name == "celery.app.trace" and isinstance(record.args, dict):
        error = record.exc_info[1] if record.exc_info else None
        told = where(error) if error is not None else "an error"
        hidden = dict.fromkeys(("args", "kwargs", "traceback", "return_value"), "")
        return str(record.msg) % (record.args | hidden | {"exc": told})
    return record.getMessage()
