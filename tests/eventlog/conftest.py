"""Each test runs on a SQLite file and on a PostgreSQL of our own, never on a pretended database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from apps.eventlog.table import TableLog
from tests.eventlog import databases
from tests.postgres import Postgres, postgres

__all__ = ["postgres"]


class Clock:
    """A clock that stands until it is told to move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[dict[str, Any]]:
    """The configuration of an empty database with the log's tables, registered as `log`."""
    if request.param == "sqlite":
        config = databases.sqlite_config(tmp_path / "log.sqlite3")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        config = server.create_database()
    with django_db_blocker.unblock():
        databases.register("log", config)
        databases.migrate("log")
        yield config
        databases.forget("log")


@pytest.fixture
def log(database: dict[str, Any], clock: Clock) -> Iterator[TableLog]:
    made = TableLog("log", clock, clock)
    yield made
    made.close()
