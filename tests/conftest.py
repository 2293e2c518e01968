"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# Pokes of the code under test go to the Celery app's broker, a folder of this run's own.
import ens_project.celery  # noqa: F401
from apps.history.buffer import Buffer


@pytest.fixture(autouse=True, scope="session")
def _history_is_written_by_hand() -> Iterator[None]:
    """The thread would write into whatever test runs at that moment; tests call flush()."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buffer, "_see_to_thread", lambda _self: None)
        yield
