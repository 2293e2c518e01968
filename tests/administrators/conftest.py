from __future__ import annotations

import pytest
from django.core.cache import cache

from tests.console.people import World, make_world


@pytest.fixture(autouse=True)
def _quick(settings: pytest.FixtureRequest) -> None:
    """Passwords are hashed in no time, and nobody has been here before."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def world(db: None) -> World:
    return make_world()
