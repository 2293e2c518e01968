"""Making a backup: one snapshot of the database, row by row, into one sealed file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from django.conf import settings
from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.db.migrations.recorder import MigrationRecorder

from apps.operations.backup import tables
from apps.operations.backup.sealed_file import Writer
from apps.vault.master import fingerprint, master_keys

FORMAT: Final = 1
ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: rows by table, and what the master keys are called that it needs."""

    rows: dict[str, int]
    master_keys: dict[str, str]


def write(file: BinaryIO, password: str) -> Made:
    """Write a backup of the whole database into a new, open file.

    Memory does not grow with the database. What others write meanwhile is in it or not, as it was
    at one moment; on SQL Server that needs ALLOW_SNAPSHOT_ISOLATION (docs/backup.md).

    Raises:
        OSError: the file can't be written.
        MasterKeyInvalid: there is no usable master key file to take the fingerprints from.
    """
    keys = {key_id: fingerprint(key) for key_id, key in master_keys().keys.items()}
    sealed = Writer(file, password)
    rows: dict[str, int] = {}
    with _snapshot():
        _line(sealed, _about(keys))
        for model in tables.kept():
            rows[model._meta.label] = _table(sealed, model)
    _line(sealed, {"end": rows})
    sealed.close()
    return Made(rows, keys)


def applied_migrations() -> set[tuple[str, str]]:
    """The migrations of this database, by app and name."""
    return set(MigrationRecorder(connection).applied_migrations())


def _about(keys: dict[str, str]) -> dict[str, Any]:
    labels = {model._meta.app_label for model in tables.kept()}
    known = sorted(each for each in applied_migrations() if each[0] in labels)
    return {
        "ens_backup": FORMAT,
        "release": settings.ENS_VERSION,
        "created": datetime.now(UTC),
        "master_keys": keys,
        "migrations": known,
    }


def _table(sealed: Writer, model: type[models.Model]) -> int:
    """Write the rows of a table as Django serializes them; how many there were."""
    serializer = serializers.get_serializer("python")()
    fields = [field.name for field in model._meta.concrete_fields]
    rows = model._default_manager.order_by("pk").iterator(chunk_size=ROWS_AT_ONCE)
    count = 0
    for row in rows:
        (content,) = serializer.serialize([row], fields=fields)
        _line(sealed, content)
        count += 1
    return count


def _line(sealed: Writer, content: dict[str, Any]) -> None:
    sealed.line(_Encoder(ensure_ascii=True, separators=(",", ":")).encode(content).encode("ascii"))


class _Encoder(DjangoJSONEncoder):
    """Django's own cuts times to milliseconds, which a restore would not bring back."""

    def default(self, o: Any) -> Any:
        if isinstance(o, datetime):
            return o.isoformat()
        return super().default(o)


@contextmanager
def _snapshot() -> Iterator[None]:
    """See the database as it is now, and hold up nobody who writes."""
    if connection.vendor == "sqlite":
        # Not by `atomic`, which begins with a lock for writing (settings.py).
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    if connection.vendor == "microsoft":
        with connection.cursor() as cursor:
            cursor.execute(_MSSQL_LEVEL)
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


# https://learn.microsoft.com/sql/t-sql/statements/set-transaction-isolation-level-transact-sql
_MSSQL_LEVEL: Final = """
IF EXISTS (SELECT 1 FROM sys.databases
           WHERE database_id = DB_ID() AND snapshot_isolation_state = 1)
    SET TRANSACTION ISOLATION LEVEL SNAPSHOT
"""
