"""Bringing a backup back: into an empty, migrated database, all of it or nothing.

The file is read twice: first to the end without writing anything, so that one that was changed or
cut does nothing; then into one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from django.core.exceptions import FieldDoesNotExist
from django.core.management.color import no_style
from django.core.serializers.base import DeserializationError
from django.core.serializers.python import Deserializer
from django.db import connection, models
from django.db.models.sql.subqueries import InsertQuery

from apps.operations.backup import tables
from apps.operations.backup.sealed_file import BackupRefused, Reader
from apps.operations.backup.write import FORMAT, ROWS_AT_ONCE, applied_migrations
from apps.vault import lookup, urlmac
from apps.vault.keys import VaultKeyMissing, load
from apps.vault.master import fingerprint, master_keys
from apps.vault.models import VaultKey
from apps.vault.wrapping import UnwrapFailed

# What migrating makes, and a restore replaces.
_MADE_BY_MIGRATE: Final[tuple[type[models.Model], ...]] = (VaultKey,)


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself."""

    created: datetime
    release: str
    master_keys: dict[str, str]
    migrations: frozenset[tuple[str, str]]
    rows: dict[str, int]


class Backup:
    """A backup file that has been read to its end, and is whole."""

    def __init__(self, file: BinaryIO, password: str) -> None:
        """Open and check a file; nothing is written.

        Raises:
            BackupRefused: `not_a_backup`, `unknown_version`, `wrong_password` or `tampered`.
        """
        self._reader = Reader(file, password)
        lines = self._reader.lines()
        first, last = _parsed(next(lines, b"{}")), {}
        if first.get("ens_backup") != FORMAT:
            raise BackupRefused("unknown_version", "a newer release made this backup")
        counted: dict[str, int] = {}
        for line in lines:
            last = _parsed(line)
            if label := last.get("model"):
                counted[label] = counted.get(label, 0) + 1
        said = {label.lower(): rows for label, rows in last.get("end", {}).items() if rows}
        if counted != said:
            raise BackupRefused("tampered", "the backup is not whole")
        self.about = About(
            created=datetime.fromisoformat(first["created"]).astimezone(UTC),
            release=first["release"],
            master_keys=first["master_keys"],
            migrations=frozenset((app, name) for app, name in first["migrations"]),
            rows=last["end"],
        )

    def check_place(self) -> None:
        """Whether it can be restored here; call it before `restore`.

        Raises:
            BackupRefused: `other_release`, `other_master_key` or `not_empty`.
            MasterKeyInvalid: there is no usable master key file.
        """
        missing = sorted(self.about.migrations - applied_migrations())
        if missing:
            name = ".".join(missing[0])
            raise BackupRefused(
                "other_release",
                f"release {self.about.release} made this backup, and this database lacks its "
                f"migration {name}: migrate first, with that release or a newer one",
            )
        here = {key_id: fingerprint(key) for key_id, key in master_keys().keys.items()}
        for key_id, said in self.about.master_keys.items():
            if here.get(key_id) != said:
                raise BackupRefused("other_master_key", _other_key(key_id, said, here))
        for model in tables.kept():
            if model not in _MADE_BY_MIGRATE and model._default_manager.exists():
                raise BackupRefused(
                    "not_empty",
                    f"{model._meta.label} has rows already: restore into a new database, "
                    "migrated and otherwise empty",
                )

    def restore(self) -> None:
        """Bring all rows back, in the caller's transaction.

        Raises:
            BackupRefused: `other_release` (a row has columns that are unknown here), or
                `other_master_key`; nothing may be committed then.
        """
        for model in _MADE_BY_MIGRATE:
            model._default_manager.all().delete()
        for model, rows in self._pages():
            _insert(model, rows)
        connection.check_constraints()
        _continue_numbers()
        lookup.forget()
        urlmac.forget()
        try:
            for kind in VaultKey.Kind:
                load(kind)
        except (UnwrapFailed, VaultKeyMissing):
            raise BackupRefused(
                "other_master_key", "the backup's own keys don't open under this master key"
            ) from None

    def _pages(self) -> Iterator[tuple[type[models.Model], list[models.Model]]]:
        """The rows of one table after the other, some hundred at once."""
        page: list[dict[str, Any]] = []
        installed = {model._meta.label_lower: model for model in tables.kept()}
        for line in self._reader.lines():
            row = _parsed(line)
            if "model" not in row:
                continue
            if row["model"] not in installed:
                raise BackupRefused(
                    "other_release", "it has tables that are unknown here: check ENS_ROLES"
                )
            if page and (page[0]["model"] != row["model"] or len(page) >= ROWS_AT_ONCE):
                yield installed[page[0]["model"]], _objects(page)
                page = []
            page.append(row)
        if page:
            yield installed[page[0]["model"]], _objects(page)


def lift_time_limits() -> None:
    """Within a transaction: a long restore is not cut off as a hanging request would be."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def _other_key(key_id: str, said: str, here: dict[str, str]) -> str:
    wanted = f"it needs the master key {key_id} with the fingerprint {said}"
    found = ", ".join(f"{name} ({mark})" for name, mark in here.items())
    return (
        f"this is the wrong master key: {wanted}; ENS_MASTER_KEY_FILE has {found}. "
        "The master key is kept apart from backups: without it nothing sealed opens"
    )


def _objects(page: list[dict[str, Any]]) -> list[models.Model]:
    try:
        return [found.object for found in Deserializer(page)]
    except (DeserializationError, FieldDoesNotExist):
        raise BackupRefused(
            "other_release", f"its table {page[0]['model']} has columns that are unknown here"
        ) from None


def _insert(model: type[models.Model], rows: list[models.Model]) -> None:
    """Insert rows as they are: no defaults, no `auto_now`, no `save` of their own."""
    fields = model._meta.concrete_fields
    most = max(1, min(connection.ops.bulk_batch_size(fields, rows), ROWS_AT_ONCE))
    for first in range(0, len(rows), most):
        query = InsertQuery(model)
        query.insert_values(fields, rows[first : first + most], raw=True)
        query.get_compiler(connection=connection).execute_sql()


def _continue_numbers() -> None:
    """Let new rows be numbered after the restored ones."""
    statements = connection.ops.sequence_reset_sql(no_style(), tables.kept())
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BackupRefused("tampered", "the backup holds what no release has written")
    return found
