"""What history and alerts ask of the database compiles for SQL Server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils.connection import ConnectionProxy

from apps.alerts.models import Severity
from apps.alerts.sending import send_due
from apps.alerts.service import clear_alert, raise_alert
from apps.history import buffer as buffer_module
from apps.history import counters, stories
from tests.eventlog.test_mssql import Script, script  # noqa: F401

PHONE = uuid.UUID(int=7)


@pytest.fixture
def on_mssql(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:  # noqa: F811
    """Let all models, and `transaction.atomic()`, use the SQL Server that only writes down."""

    class Everything:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return "mssql"

        db_for_write = db_for_read

    monkeypatch.setattr("django.db.router.routers", [Everything()])
    monkeypatch.setattr("django.db.utils.DEFAULT_DB_ALIAS", "mssql")
    monkeypatch.setattr("django.db.transaction.DEFAULT_DB_ALIAS", "mssql")
    proxy = ConnectionProxy(connections, "mssql")
    monkeypatch.setattr(buffer_module, "connection", proxy)
    return script


def _write() -> None:
    for number in range(1_000):
        stories.record(PHONE, "push", n=number)
    counters.count("joins")
    buffer_module.buffer.flush()


@pytest.mark.parametrize(
    "does",
    [
        _write,
        lambda: stories.story(PHONE),
        stories.pack,
        stories.purge,
        lambda: counters.minutes("joins", datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: counters.recent("joins", timedelta(minutes=2)),
        counters.totals,
        counters.fold,
        lambda: raise_alert("a", Severity.WARNING, "a"),
        lambda: clear_alert("a"),
        send_due,
    ],
)
def test_it_compiles_and_keeps_to_the_limits(does: Callable[[], Any], on_mssql: Script) -> None:
    loose = [(number, PHONE.hex, '[1.0,"push",{}]') for number in range(1_500)]
    on_mssql.answers = {
        "INSERT INTO [alerts_message]": [(1,)],
        "[changed_at] FROM [alerts_alert]": [
            ("a", "warning", "a", "{}", False, datetime(2026, 1, 1, tzinfo=UTC))
        ],
        "SELECT TOP 2000 [history_loose_entry]": loose,
        "SELECT TOP 5000 [history_minute_count]": [(n, "joins", 1) for n in range(1_500)],
    }
    does()
    assert on_mssql.statements
    for sql, params in on_mssql.statements:
        assert len(params) <= 2_100
        assert not re.search(r"\bLIMIT\b|ON CONFLICT|FOR UPDATE|RETURNING", sql)
