"""How log lines look: a line of text, or one JSON object a record (`ENS_LOG_FORMAT`).

Both write an exception as its type and place. Its text, and a traceback's source lines, may hold
what they are about: an address, a subject, a token.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final

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
