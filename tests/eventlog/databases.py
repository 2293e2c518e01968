"""Databases beside Django's default one, for tests and for the processes that tests start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections


def sqlite_config(path: Path) -> dict[str, Any]:
    """A SQLite file opened as `ens_project/settings.py` opens it, with a shorter patience."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
            "PRAGMA secure_delete=ON; PRAGMA busy_timeout=20000;",
        },
    }


def register(alias: str, config: dict[str, Any]) -> str:
    """Make a database known to Django in this process under an alias."""
    connections.databases[alias] = connections.configure_settings({"default": config})["default"]
    return alias


def forget(alias: str) -> None:
    """Close a database and take it out of Django again."""
    connections[alias].close()
    del connections[alias]
    del connections.databases[alias]


def migrate(alias: str) -> None:
    """Make the event log's tables in a database."""
    call_command("migrate", "eventlog", database=alias, verbosity=0, skip_checks=True)
