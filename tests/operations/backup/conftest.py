from __future__ import annotations

import pytest

from tests.operations.backup.deployment import Deployment
from tests.postgres import postgres

__all__ = ["blank", "postgres"]


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Migrated once, copied by many."""
    return Deployment(tmp_path_factory.mktemp("blank") / "blank")
