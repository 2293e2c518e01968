"""Each test runs on a SQLite file, a PostgreSQL and a Redis of our own, never on pretended ones."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from apps.eventlog.interface import EventLog
from apps.eventlog.table import TableLog
from tests.eventlog import databases, stores
from tests.postgres import Postgres, postgres
from tests.redis import RedisServer, redis_server, sentinels

__all__ = ["postgres", "redis_server", "sentinels"]


class Clock:
    """A clock that stands until it is told to move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def _database(
    name: str, request: pytest.FixtureRequest, blocker: DjangoDbBlocker
) -> Iterator[dict[str, Any]]:
    if name == "sqlite":
        path: Path = request.getfixturevalue("tmp_path")
        config = databases.sqlite_config(path / "log.sqlite3")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        config = server.create_database()
    with blocker.unblock():
        databases.register("log", config)
        databases.migrate("log")
        yield config
        databases.forget("log")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker
) -> Iterator[dict[str, Any]]:
    """The configuration of an empty database with the log's tables, registered as `log`."""
    with _database(request.param, request, django_db_blocker) as config:
        yield config


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store(
    request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker
) -> Iterator[dict[str, Any]]:
    """Whatever may keep a log, empty."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        yield stores.redis_store(server.url, secrets.token_hex(6))
    else:
        with _database(request.param, request, django_db_blocker) as config:
            yield config


@pytest.fixture
def table(database: dict[str, Any], clock: Clock) -> Iterator[TableLog]:
    made = TableLog("log", clock, clock)
    yield made
    made.close()


@pytest.fixture
def log(store: dict[str, Any], clock: Clock) -> Iterator[EventLog]:
    made = stores.open_log(store, clock)
    yield made
    made.close()
