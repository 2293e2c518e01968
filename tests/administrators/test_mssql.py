"""The tables of sign-in can be made on SQL Server, with keys and indexes that it takes."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from tests.eventlog.test_mssql import Script, script

__all__ = ["script"]
APPS = (
    *("administrators", "axes", "account", "mfa", "socialaccount", "sessions", "admin"),
    *("contenttypes", "auth", "audit"),
)


@pytest.mark.parametrize("app", APPS)
def test_every_migration_compiles(script: Script, app: str) -> None:
    loader = MigrationLoader(None)
    names = sorted(name for label, name in loader.disk_migrations if label == app)
    # It looks up the name of a constraint that only a real server can tell.
    names = [name for name in names if (app, name) != ("mfa", "0003_authenticator_type_uniq")]
    assert names
    for name in names:
        out = StringIO()
        call_command("sqlmigrate", app, name, database="mssql", stdout=out, skip_checks=True)


def test_no_key_is_wider_than_sql_server_takes(script: Script) -> None:
    """1,700 bytes; a character takes two."""
    for app in APPS:
        for model in apps.get_app_config(app).get_models():
            keys = [list(one) for one in model._meta.unique_together]
            keys += [list(getattr(one, "fields", ())) for one in model._meta.constraints]
            keys += [[f.name] for f in model._meta.local_fields if f.db_index or f.unique]
            for names in keys:
                fields = [model._meta.get_field(name) for name in names]
                width = sum(2 * (getattr(f, "max_length", None) or 4) for f in fields)
                assert width <= 1700, (model._meta.label, names)


def test_what_lockout_and_sessions_ask_compiles(script: Script) -> None:
    from axes.models import AccessAttempt
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    rows = AccessAttempt.objects.using("mssql")
    list(rows.filter(username="x" * 64, attempt_time__gte=timezone.now()))
    list(Session.objects.using("mssql").filter(session_key="k", expire_date__gt=timezone.now()))
    assert script.of(r"FROM \[axes_accessattempt\]")
    assert re.search("django_session", " ".join(script.of("SELECT")))
    assert connections["mssql"].vendor == "microsoft"
