"""Log lines: the request id is in them, and no error's text ever is."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import shared_task

from apps import request_id
from apps.operations.logs import FolderHandler, JsonFormatter, LineFormatter, process_role

SECRET = "anna@example.com-secret"
PID = str(os.getpid())


@shared_task(name="tests.fails")
def fails(argument: str) -> None:
    raise ValueError(SECRET)


def record(message: str, *args: Any, error: bool = False) -> logging.LogRecord:
    exc_info = None
    if error:
        try:
            raise KeyError(SECRET)
        except KeyError:
            exc_info = sys.exc_info()
    return logging.LogRecord("apps.x", logging.ERROR, __file__, 1, message, args, exc_info)


def test_a_json_line_has_these_members() -> None:
    before = request_id.work_on(["0123456789ab"])
    try:
        told = json.loads(JsonFormatter().format(record("count %d", 3)))
    finally:
        request_id._current.reset(before)
    assert told.pop("timestamp").endswith("+00:00")
    assert told == {
        "level": "ERROR",
        "logger": "apps.x",
        "message": "count 3",
        "request_id": "0123456789ab",
        "role": process_role(),
    }


@pytest.mark.parametrize("formatter", [LineFormatter, JsonFormatter])
def test_an_error_is_its_type_and_place(formatter: type[logging.Formatter]) -> None:
    made = record("it failed", error=True)
    # Another handler may have left the whole traceback in the record.
    logging.Formatter().format(made)
    assert SECRET in str(made.exc_text)
    line = formatter().format(made)
    assert "KeyError at test_logs.py:" in line
    assert SECRET not in line
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [LineFormatter, JsonFormatter])
def test_a_message_is_one_line(formatter: type[logging.Formatter]) -> None:
    line = formatter().format(record("a\nERROR forged\r\x1b[31m"))
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line


@pytest.mark.parametrize("formatter", [LineFormatter, JsonFormatter])
def test_celerys_failed_tasks_keep_their_secret(
    formatter: type[logging.Formatter], caplog: pytest.LogCaptureFixture
) -> None:
    fails.apply(args=(SECRET,))
    (made,) = [one for one in caplog.records if one.name == "celery.app.trace"]
    assert SECRET in made.getMessage()
    line = formatter().format(made)
    assert "tests.fails" in line
    assert "ValueError at test_logs.py:" in line
    assert SECRET not in line


def test_ids_are_checked_and_merged() -> None:
    one, two = request_id.new(), request_id.new()
    before = request_id.work_on([f"{one},{two}", one, "", "ANNA", "x" * 12, f"{two}\n"])
    assert request_id.current() == f"{one},{two}"
    request_id.work_on(request_id.new() for _ in range(500))
    assert request_id.current().count(",") == 99
    request_id._current.reset(before)


def test_each_request_has_an_id_of_its_own_and_it_ends_with_it() -> None:
    seen: list[str] = []

    def view(_request: None) -> None:
        seen.append(request_id.current())

    answer = request_id.middleware(view)
    answer(None)
    answer(None)
    assert len(set(seen)) == 2
    assert all(len(one) == 12 for one in seen)
    assert request_id.current() == ""


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (["/usr/bin/celery", "-A", "ens_project", "worker"], "worker"),
        (["/x/celery/__main__.py", "-A", "ens_project", "beat"], "beat"),
        (["manage.py", "ens_og", "create"], "ens_og"),
        (["/x/granian/__main__.py", "--interface", "wsgi"], "web"),
    ],
)
def test_a_process_knows_its_role(
    words: list[str], role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    assert process_role() == role


def test_a_folder_has_a_file_a_process_and_day_and_forgets_old_ones(tmp_path: Path) -> None:
    handler = FolderHandler(tmp_path / "logs", days=14)
    handler.setFormatter(LineFormatter())
    day = 86_400.0
    began = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
    for days in (0, 0, 1, 30):
        one = record("day %d", days)
        one.created = began + days * day
        handler.emit(one)
        for file in (tmp_path / "logs").iterdir():
            written = datetime.fromisoformat(file.name.removesuffix(f"-{PID}.log")[-10:])
            os.utime(file, (written.timestamp(),) * 2)
    handler.close()
    found = sorted(file.name for file in (tmp_path / "logs").iterdir())
    assert found == [f"{process_role()}-2026-12-01-{PID}.log"]
    assert (tmp_path / "logs" / found[0]).read_text().endswith("day 30\n")


def test_a_line_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    handler = FolderHandler(tmp_path / "file", days=14)
    handler.setFormatter(LineFormatter())
    handler.emit(record("lost"))
