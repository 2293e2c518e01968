"""Rolling upgrades: while a deployment is upgraded server by server, the code of the last release
works on the new schema. So migrations add, and what they add the old code need not know of.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import base, fields, special
from django.db.migrations.operations import models as on_models

# What the last release does not notice. What is taken away or renamed waits for a later release.
_HARMLESS = (
    on_models.CreateModel,
    on_models.AlterModelOptions,
    on_models.AddIndex,
    fields.AddField,
    fields.AlterField,
    special.RunPython,
)


def _operations() -> Iterator[tuple[str, base.Operation]]:
    for (app, name), migration in sorted(MigrationLoader(None).disk_migrations.items()):
        if migration.__module__.startswith("apps.") and not name.startswith("0001"):
            yield from ((f"{app}.{name}", operation) for operation in migration.operations)


def _fault(operation: base.Operation) -> str:
    if not isinstance(operation, _HARMLESS):
        return type(operation).__name__
    if isinstance(operation, fields.AddField):
        field = operation.field
        unknown = not field.null and field.db_default is models.NOT_PROVIDED
        if unknown and not field.many_to_many:
            return f"{operation.model_name}.{operation.name} has neither null nor db_default"
    return ""


@pytest.mark.parametrize(("where", "operation"), list(_operations()))
def test_the_last_release_works_on_the_new_schema(where: str, operation: base.Operation) -> None:
    assert not _fault(operation), where


def test_what_would_break_the_last_release_is_found() -> None:
    assert _fault(fields.RemoveField("device", "model_name"))
    assert _fault(fields.RenameField("device", "model_name", "model"))
    assert _fault(on_models.DeleteModel("Device"))
    assert _fault(fields.AddField("device", "colour", models.CharField(max_length=9, default="")))
    with_default = models.CharField(max_length=9, default="", db_default="")
    assert not _fault(fields.AddField("device", "colour", with_default))
