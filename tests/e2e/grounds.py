"""What a stand keeps its data in: searched by the canary, and broken by it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
import redis
from psycopg2 import sql
from redis.sentinel import Sentinel

from apps.lab.stand.postgres import NAME as POSTGRES
from apps.lab.stand.postgres import PostgresMissing, binaries
from apps.lab.stand.redis_servers import NODES, SENTINEL, RedisMissing, redis_server
from apps.lab.stand.stand import OWN, Stand
from tests.e2e.marks import cells

Pairs = Sequence[tuple[str, str]]
# Celery's broker and the event log (apps/lab/stand/redis_servers.py).
REDIS_DATABASES = (0, 1)


class Ground(Protocol):
    """Where ENS keeps what it knows.

    `logs` are the programs whose logs count, `folders` what to search in the stand's home, and
    `expected` how the names of places begin that a dump of a stand in use has.
    """

    logs: Sequence[str]
    folders: Sequence[str]
    expected: Sequence[str]

    def dump(self) -> Iterator[tuple[str, bytes]]:
        """All that its databases hold: a place's name, and what stands there."""

    def rename(self, pairs: Pairs) -> None:
        """Rename tables, old to new."""

    def entries(self) -> int:
        """How many entries lie in the event log."""

    def plant(self, mark: str) -> set[str]:
        """Put a mark everywhere; returns how the names of those places end."""


class Embedded:
    """SQLite and folders: all in ENS's directory."""

    logs: Sequence[str] = OWN
    folders: Sequence[str] = ("ens", "relay")
    expected: Sequence[str] = ("devices_device", "subscriptions_subscription", "eventlog_seenmark")

    def __init__(self, stand: Stand) -> None:
        self._file = stand.home / "ens" / "data" / "ens.sqlite3"

    def dump(self) -> Iterator[tuple[str, bytes]]:
        """See Ground."""
        return cells(self._file)

    def rename(self, pairs: Pairs) -> None:
        """See Ground."""
        rename_in_sqlite(self._file, pairs)

    def entries(self) -> int:
        """See Ground."""
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20)) as found:
            return int(found.execute("SELECT count(*) FROM eventlog_logentry").fetchone()[0])

    def plant(self, mark: str) -> set[str]:
        """See Ground."""
        with closing(sqlite3.connect(self._file, timeout=20)) as database, database:
            database.execute("CREATE TABLE planted (mark text)")
            database.execute("INSERT INTO planted VALUES (?)", (mark,))
        return {"planted"}


class Servers:
    """PostgreSQL, and Redis as broker and event log. Their files and logs are searched, too."""

    logs: Sequence[str] = (*OWN, POSTGRES, *NODES, SENTINEL)
    folders: Sequence[str] = ("ens", "relay", "redis")
    expected: Sequence[str] = (
        "PostgreSQL, devices_device",
        "PostgreSQL, subscriptions_subscription",
        "Redis 0, b'_kombu.binding",
        "Redis 1, b'{ens:log}:seen:",
    )

    def __init__(self, stand: Stand) -> None:
        assert stand.postgres is not None
        assert stand.redis is not None
        self._database_url = stand.postgres.url
        broker = urlsplit(stand.redis.broker_url)
        (self._service,) = parse_qs(broker.query)["service"]
        self._sentinel = Sentinel([(broker.hostname, broker.port)], socket_timeout=10)

    def dump(self) -> Iterator[tuple[str, bytes]]:
        """See Ground."""
        for table in self._tables():
            for row in self._rows(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))):
                for cell in row:
                    yield f"PostgreSQL, {table}", _as_bytes(cell)
        for number in REDIS_DATABASES:
            master = self._master(number)
            # Else what the files hold would be compressed, and could not be found.
            master.config_set("rdbcompression", "no")
            master.save()
            for key in master.scan_iter():
                yield f"Redis {number}, name of a key", key
                yield f"Redis {number}, {key!r}", b"\n".join(_flat(_value(master, key)))

    def rename(self, pairs: Pairs) -> None:
        """See Ground."""
        with closing(psycopg2.connect(self._database_url)) as database, database:
            for old, new in pairs:
                words = sql.SQL("ALTER TABLE {} RENAME TO {}")
                database.cursor().execute(words.format(sql.Identifier(old), sql.Identifier(new)))

    def entries(self) -> int:
        """See Ground."""
        master = self._master(REDIS_DATABASES[1])
        return sum(master.xlen(key) for key in master.scan_iter(_type="stream"))

    def plant(self, mark: str) -> set[str]:
        """See Ground."""
        with closing(psycopg2.connect(self._database_url)) as database, database:
            database.cursor().execute("CREATE TABLE planted (mark bytea)")
            database.cursor().execute("INSERT INTO planted VALUES (%s)", (mark.encode(),))
        for number in REDIS_DATABASES:
            self._master(number).xadd("planted", {"mark": mark})
        keys = {f"Redis {number}, b'planted'" for number in REDIS_DATABASES}
        return {"PostgreSQL, planted", "dump.rdb", ".aof", *keys}

    def _tables(self) -> list[str]:
        query = sql.SQL("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [name for (name,) in self._rows(query)]

    def _rows(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self._database_url)) as database, database:
            cursor = database.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())

    def _master(self, number: int) -> redis.Redis:
        return self._sentinel.master_for(self._service, db=number)


def skip_without_servers() -> None:
    """Skip the test where PostgreSQL or Redis is not installed."""
    try:
        binaries()
        redis_server()
    except (PostgresMissing, RedisMissing) as missing:
        pytest.skip(str(missing))


def rename_in_sqlite(file: Path, pairs: Pairs) -> None:
    """Rename tables of an SQLite database, old to new."""
    with closing(sqlite3.connect(file, timeout=20)) as database, database:
        # Else the references of other tables would follow.
        database.execute("PRAGMA legacy_alter_table = ON")
        for old, new in pairs:
            database.execute(f'ALTER TABLE "{old}" RENAME TO "{new}"')


def _as_bytes(cell: object) -> bytes:
    return bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()


def _value(master: redis.Redis, key: bytes) -> object:
    """The whole of a key, whatever its type; nothing where it has just gone."""
    match master.type(key):
        case b"string":
            return master.get(key)
        case b"list":
            return master.lrange(key, 0, -1)
        case b"set":
            return list(master.smembers(key))
        case b"hash":
            return master.hgetall(key)
        case b"zset":
            return master.zrange(key, 0, -1)
        case b"stream":
            groups = master.xinfo_groups(key)
            consumers = [master.xinfo_consumers(key, group["name"]) for group in groups]
            return [master.xrange(key), groups, consumers]
        case b"none":
            return None
    raise AssertionError(f"a key of an unknown type: {key!r}")


def _flat(value: object) -> Iterator[bytes]:
    """Every string in a value that may be nested."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from _flat([*value, *value.values()])
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for part in value:
            yield from _flat(part)
    else:
        yield str(value).encode()
