"""One deployment for all tests that start its processes."""

from __future__ import annotations

import pytest

from tests.operations.install.deployment import Deployment, make


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """In directories with blanks, an ampersand and letters beyond ASCII."""
    return make(tmp_path_factory.mktemp("deployment") / "ENS & Söhne")
