"""What all tests share."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings

# Pokes of the code under test go to the Celery app's broker, a folder of this run's own.
import ens_project.celery  # noqa: F401
from apps.announce import context
from apps.eventlog.factory import get_log
from apps.eventlog.table import TableLog
from apps.history.buffer import Buffer

# How long an example takes says more about the machine than about us: what must be quick has a
# bound of its own in its test.
settings.register_profile("ens", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ens")


@pytest.fixture(autouse=True, scope="session")
def _history_is_written_by_hand() -> Iterator[None]:
    """The thread would write into whatever test runs at that moment; tests call flush()."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buffer, "_see_to_thread", lambda _self: None)
        yield


@pytest.fixture(autouse=True)
def _settings_are_read_anew() -> None:
    """The next test's groups may have the ids of the last one's."""
    context.forget()


@pytest.fixture(autouse=True, scope="session")
def _signs_are_written_by_hand() -> Iterator[None]:
    """The same for the signs of life of the process's own log; its tests have logs of their own."""
    log = get_log()
    assert isinstance(log, TableLog)
    log._signs._every_s = 1e6
    yield
    atexit.unregister(log._signs.close)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Tests that commit empty all tables afterwards; on SQLite the audit log would refuse that."""
    if connection.vendor == "sqlite":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER IF EXISTS audit_entry_no_delete")
