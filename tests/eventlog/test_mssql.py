"""Every statement of the table log compiles for SQL Server and keeps to its limits.

No SQL Server runs here: a driver that only writes statements down stands in for pyodbc, below
mssql-django, whose compiler is the one that refuses what SQL Server doesn't know.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from apps.eventlog.interface import NewEntry
from apps.eventlog.table import TableLog
from tests.eventlog import databases

MANY = [f"{number:064x}" for number in range(2_500)]


@dataclass
class Script:
    """What was executed, and what is answered to statements that match a pattern."""

    statements: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    answers: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        fixed: dict[str, list[tuple[Any, ...]]] = {
            "SERVERPROPERTY": [("16.0.1000.6", 3)],
            "@@TRANCOUNT": [(1,)],
            "SYSDATETIME": [(datetime.now(UTC),)],
        }
        return next((rows for key, rows in (fixed | self.answers).items() if key in sql), [])

    def of(self, pattern: str) -> list[str]:
        return [sql for sql, _ in self.statements if re.search(pattern, sql, re.DOTALL)]


def _driver(script: Script) -> ModuleType:
    class Cursor:
        rowcount = 1
        description = None
        messages = None

        def execute(self, sql: str, *params: Any) -> Cursor:
            values = (
                tuple(params[0]) if len(params) == 1 and isinstance(params[0], tuple) else params
            )
            script.statements.append((sql, values))
            self._rows = list(script.answer(sql))
            return self

        def fetchone(self) -> tuple[Any, ...] | None:
            return self._rows.pop(0) if self._rows else None

        def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
            taken, self._rows = self._rows[:size], self._rows[size:]
            return taken

        def fetchall(self) -> list[tuple[Any, ...]]:
            return self.fetchmany(len(self._rows))

        def nextset(self) -> bool:
            return False

        def close(self) -> None:
            pass

        def __enter__(self) -> Cursor:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    connection = SimpleNamespace(
        autocommit=True,
        timeout=0,
        cursor=Cursor,
        getinfo=lambda _: "msodbcsql18.so",
        add_output_converter=lambda *_: None,
        commit=lambda: None,
        rollback=lambda: None,
        close=lambda: None,
    )
    driver = ModuleType("pyodbc")
    errors: dict[str, Any] = {"Warning": type("Warning", (Exception,), {})}
    errors["Error"] = type("Error", (Exception,), {})
    for name in ("InterfaceError", "DatabaseError"):
        errors[name] = type(name, (errors["Error"],), {})
    for name in ("Data", "Operational", "Integrity", "Internal", "Programming", "NotSupported"):
        errors[f"{name}Error"] = type(f"{name}Error", (errors["DatabaseError"],), {})
    driver.__dict__.update(errors)
    driver.__dict__.update(
        version="5.5.0",
        Binary=bytes,
        __getattr__=lambda name: name,  # SQL_BIGINT and the like
        connect=lambda *_, **__: connection,
    )
    return driver


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker) -> Iterator[Script]:
    written = Script()
    monkeypatch.setitem(sys.modules, "pyodbc", _driver(written))
    for name in [name for name in sys.modules if name.split(".")[0] == "mssql"]:
        monkeypatch.delitem(sys.modules, name)
    with django_db_blocker.unblock():
        databases.register("mssql", {"ENGINE": "mssql", "NAME": "ens", "HOST": "sql.example"})
        connections["mssql"].ensure_connection()
        written.statements.clear()
        yield written
        databases.forget("mssql")
    for name in [name for name in sys.modules if name.split(".")[0] == "mssql"]:
        del sys.modules[name]


@pytest.fixture
def log(script: Script) -> TableLog:
    return TableLog("mssql")


@pytest.fixture(autouse=True)
def _within_the_limits(script: Script) -> Iterator[None]:
    yield
    assert script.statements
    for sql, params in script.statements:
        assert len(params) <= 2_100
        assert sql.count("?") == len(params)
        assert not re.search(r"\bLIMIT\b|ON CONFLICT|FOR UPDATE|RETURNING|\bIGNORE\b", sql)
        assert "OFFSET" not in sql or "ORDER BY" in sql


def test_append(script: Script, log: TableLog) -> None:
    assert log.append(NewEntry("notification", "p", b"payload")) is True
    (insert,) = script.of("^INSERT INTO")
    assert insert.startswith("INSERT INTO [eventlog_logentry] ([kind], [partition], [payload]")
    assert script.of("COUNT_BIG")


def test_claim(script: Script, log: TableLog) -> None:
    script.answers = {
        "[payload]": [(7, "p", b"payload", 1.0, 0), (8, "q", b"payload", 1.0, 2)],
        "[eventlog_turn]": [(1,)],
        "EXISTS": [("p",), ("q",)],
    }
    entries = log.claim("notification", "w", 1_000, 30, MANY)
    assert [(entry.id, entry.attempts) for entry in entries] == [(7, 1), (8, 3)]
    assert len(script.of(r"FROM \[eventlog_turn\] WITH \(ROWLOCK, UPDLOCK\)")) == 1
    (locked,) = script.of(r"FROM \[eventlog_logentry\] WITH \(ROWLOCK, UPDLOCK, READPAST\)")
    assert "[payload]" in locked
    assert script.of(r"UPDATE \[eventlog_logentry\] SET holder = .*attempts = attempts \+ 1")


def test_the_turn_is_made_when_it_is_missing(script: Script, log: TableLog) -> None:
    log.renew([1], "w", 30)
    assert script.of(r"INSERT INTO \[eventlog_turn\]")


def test_leases(script: Script, log: TableLog) -> None:
    ids = list(range(1, 2_501))
    log.renew(ids, "w", 30)
    log.delay(ids, "w", 5)
    log.acknowledge(ids)
    assert len(script.of(r"UPDATE \[eventlog_logentry\]")) == 10
    assert len(script.of(r"DELETE FROM \[eventlog_logentry\]")) == 5


def test_bury_and_depth(script: Script, log: TableLog) -> None:
    script.answers = {"UPDLOCK": [("notification", "p", 3, 1.0)], "SCOPE_IDENTITY": [(1,)]}
    log.bury(1, "gave_up")
    assert script.of(r"INSERT INTO \[eventlog_deadletter\]")
    assert script.of(r"DELETE FROM \[eventlog_logentry\]")
    script.answers = {"COUNT_BIG": [(5,)]}
    assert log.depth("notification") == 5


def test_marks_partitions_and_signs(script: Script, log: TableLog) -> None:
    script.answers = {"SELECT [eventlog_sign].[partition]": [(MANY[0], 1.0), (MANY[1], 1.0)]}
    log.mark_seen(MANY, 60)
    assert log.seen(MANY) == set()
    log.set_unwanted("p")
    for partition in MANY:
        log.sign_of_life(partition, f"mark of {partition}")
    log.close()
    script.answers = {"[eventlog_sign]": [(MANY[0], 1.0)]}
    assert set(log.last_signs(MANY)) == {MANY[0]}
    assert script.of(r"UPDATE \[eventlog_sign\] SET .* CASE .* ELSE mark END")
    script.answers = {}
    assert log.last_marks(MANY) == {}
    assert log.silent(datetime.now(UTC), 500, after=MANY[0]) == []
    log.forget(MANY)
    assert log.dead_since(MANY) == {}
    log.revive(MANY)
    assert len(script.of(r"INSERT INTO \[eventlog_seenmark\]")) >= 5
    assert not script.of("IGNORE")


def test_purge(script: Script, log: TableLog) -> None:
    asked: list[str] = []

    original = script.answer

    def answer(sql: str) -> list[tuple[Any, ...]]:
        table = re.search(r"^SELECT .*FROM \[(eventlog_\w+)\]", sql, re.DOTALL)
        if table and table[1] not in asked:
            asked.append(table[1])
            return [(number,) for number in range(500)]
        return original(sql)

    script.answer = answer  # type: ignore[method-assign]
    log.purge()
    assert len(asked) == 4
    assert len(script.of(r"DELETE FROM \[eventlog_")) == 4


def test_the_tables_can_be_made(script: Script) -> None:
    out = StringIO()
    for name in ("0001", "0002"):
        call_command("sqlmigrate", "eventlog", name, database="mssql", stdout=out, skip_checks=True)
    made = out.getvalue()
    assert made.count("CREATE TABLE") == 6
    indexed = re.findall(r"CREATE (?:UNIQUE )?INDEX \S+ ON \[\w+\] \(([^)]*)\)", made)
    assert indexed
    assert "[payload]" not in "".join(indexed)
    assert "varbinary(max)" in made.lower()
