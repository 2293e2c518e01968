"""Exports that a spreadsheet can open without running what somebody wrote into a cell.

A cell that begins like a formula is written with an apostrophe in front, which spreadsheets take
as «text follows» (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from apps.audit.models import AuditEntry

# Full-width forms are normalized by some spreadsheets; tab and carriage return move the cell.
_FORMULA: Final = frozenset("=+-@|%\t\r\n＝＋－＠")
COLUMNS: Final = ("at", "actor", "address", "action", "target", "og_path", "before", "after")


def safe_cell(value: Any) -> str:
    """A cell's text that no spreadsheet takes for a formula, on one line, without bidi tricks."""
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    text = "" if value is None else str(value)
    if text.isascii() and text.isprintable():  # most are, and a table has millions
        return f"'{text}" if text.lstrip()[:1] in _FORMULA else text
    began = text[:1] in _FORMULA or text.lstrip()[:1] in _FORMULA
    text = "".join(
        " " if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character
        for character in text
    )
    return f"'{text}" if began or text.lstrip()[:1] in _FORMULA else text


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Any table as CSV (RFC 4180), a line at a time; every cell passes `safe_cell`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([safe_cell(cell) for cell in header])
    yield buffer.getvalue()
    for cells in rows:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([safe_cell(cell) for cell in cells])
        yield buffer.getvalue()


def entries_as_csv(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Audit entries as CSV; `before` and `after` are JSON in one cell."""
    rows = ([_cell(entry, name) for name in COLUMNS] for entry in entries)
    return csv_lines(COLUMNS, rows)


def entries_as_json_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Audit entries as JSON Lines: one object a line, ASCII only."""
    for entry in entries:
        found = {name: getattr(entry, name) for name in COLUMNS}
        found["at"] = entry.at.isoformat()
        yield json.dumps(found, separators=(",", ":")) + "\n"


def _cell(entry: AuditEntry, name: str) -> Any:
    value = getattr(entry, name)
    return json.dumps(value) if isinstance(value, dict) else value
