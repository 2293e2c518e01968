"""What backup, restore and new keys ask of the database compiles for SQL Server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connections, models
from django.utils.connection import ConnectionProxy

from apps.administrators.models import Administrator
from apps.devices.models import Device
from apps.operations import rewrap
from apps.operations.backup import restore, tables, write
from apps.operations.backup.replay import replay
from apps.revocations import Entry
from apps.subscriptions import anew
from apps.tenants.models import ApiToken, OgSetting
from tests.eventlog.test_mssql import Script, script  # noqa: F401
from tests.history.test_mssql import on_mssql  # noqa: F401

NOW = datetime(2026, 11, 21, tzinfo=UTC)
COLUMN = {column.name: column for column in rewrap.COLUMNS}


def _insert() -> None:
    many = [
        Device(id=uuid.UUID(int=number), og_id=1, mailbox_id=1, push_token_sealed=b"x")
        for number in range(500)
    ]
    settings = [OgSetting(pk=7, og_id=1, key="a.b", value=[1])]
    tokens = [ApiToken(pk=1, og_id=1, token_hash="a", label="x", created_at=NOW)]
    every: list[list[Any]] = [many, settings, tokens, [Administrator(pk=1, username="a")]]
    for rows in every:
        restore._insert(type(rows[0]), rows)


def _read() -> None:
    for model in tables.kept():
        list(model._default_manager.order_by("pk").iterator(chunk_size=write.ROWS_AT_ONCE))


def _replace() -> None:
    row = {"pk": uuid.UUID(int=1), "push_token_sealed": b"x"}
    assert rewrap._replace(Device, COLUMN["push_token_sealed"], row, b"y")


def _replay() -> None:
    facts = {"kind": "uem", "value": "a" * 64, "scope": "0001", "reason": "compliance"}
    entries = [
        Entry(NOW, "block", facts),
        Entry(NOW, "unblock", facts),
        Entry(NOW, "forget", {"user": "a" * 64, "mail_system": "1"}),
        Entry(NOW, "api_token", {"hash": "a"}),
        Entry(NOW, "admin_token", {"hash": "a"}),
        Entry(NOW, "secure_channel", {"thumbprint": "a"}),
        Entry(NOW, "relay_deployment", {"thumbprint": "a"}),
    ]
    replay(entries, None)


@pytest.mark.parametrize(
    "does",
    [_insert, _read, _replace, _replay, rewrap.count, lambda: anew.join_again("restored", NOW)],
)
def test_it_compiles_and_keeps_to_the_limits(
    does: Callable[[], Any],
    on_mssql: Script,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore, "connection", ConnectionProxy(connections, "mssql"))
    does()
    assert on_mssql.statements
    for sql, params in on_mssql.statements:
        assert len(params) <= 2_100
        assert not re.search(r"\bLIMIT\b|ON CONFLICT|FOR UPDATE|RETURNING", sql)


def test_restored_rows_keep_their_numbers(
    on_mssql: Script,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore, "connection", ConnectionProxy(connections, "mssql"))
    _insert()
    for sql in on_mssql.of(r"INSERT INTO"):
        numbered = any(table in sql for table in ("ogsetting", "apitoken", "administrator"))
        assert sql.startswith("SET IDENTITY_INSERT") == numbered, sql
        assert isinstance(Device._meta.pk, models.UUIDField)
