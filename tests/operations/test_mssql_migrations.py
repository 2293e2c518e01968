"""Every migration of every room compiles for SQL Server, with keys and defaults that it takes."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import models
from django.db.migrations.loader import MigrationLoader

from tests.eventlog.test_mssql import Script, script

__all__ = ["script"]

# They look up the names of constraints that only a real server can tell.
NOT_WITHOUT_A_SERVER = {("mfa", "0003_authenticator_type_uniq")}


def migrations() -> list[tuple[str, str]]:
    found = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return sorted(set(found) - NOT_WITHOUT_A_SERVER)


@pytest.mark.parametrize("app", sorted({app for app, _ in migrations()}))
def test_every_migration_compiles(script: Script, app: str) -> None:
    for label, name in migrations():
        if label != app:
            continue
        out = StringIO()
        call_command("sqlmigrate", app, name, database="mssql", stdout=out, skip_checks=True)
        # A key of a text without bounds is none that SQL Server takes.
        unbounded = re.findall(r"\[(\w+)\] nvarchar\(max\)", out.getvalue())
        for columns in re.findall(r"(?:INDEX|UNIQUE)[^;]*?\(([^)]*)\)", out.getvalue()):
            keys = {re.sub(r"\W|\bASC\b|\bDESC\b", "", one) for one in columns.split(",")}
            assert not keys & set(unbounded), (app, name, columns)


def width(field: models.Field) -> int:
    """Bytes of a value in a key; a character takes two."""
    return 2 * (getattr(field, "max_length", None) or 8)


def keys(model: type[models.Model]) -> list[list[str]]:
    options = model._meta
    found = [list(one) for one in options.unique_together]
    found += [list(getattr(one, "fields", ())) for one in options.constraints]
    found += [[name.lstrip("-") for name in one.fields] for one in options.indexes]
    found += [
        [field.name]
        for field in options.local_fields
        if field.db_index or field.unique or field.primary_key
    ]
    return [one for one in found if one]


@pytest.mark.parametrize("model", apps.get_models(), ids=lambda model: model._meta.label)
def test_no_key_is_wider_than_sql_server_takes(model: type[models.Model]) -> None:
    for names in keys(model):
        fields = [model._meta.get_field(name) for name in names]
        assert sum(width(one) for one in fields if isinstance(one, models.Field)) <= 1_700, names


@pytest.mark.parametrize("model", apps.get_models(), ids=lambda model: model._meta.label)
def test_none_of_ours_is_unique_over_nothing(model: type[models.Model]) -> None:
    """SQL Server takes one NULL only where others take many."""
    if not model.__module__.startswith("apps."):
        return
    for names in keys(model):
        fields = [model._meta.get_field(name) for name in names]
        unique = any(getattr(field, "unique", False) for field in fields) or names in [
            list(getattr(one, "fields", ()))
            for one in model._meta.constraints
            if isinstance(one, models.UniqueConstraint) and one.condition is None
        ]
        assert not unique or not any(getattr(field, "null", False) for field in fields), names
