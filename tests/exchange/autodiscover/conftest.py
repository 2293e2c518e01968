from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.exchange.autodiscover.world import World, world


@pytest.fixture
async def company() -> AsyncIterator[World]:
    async with world() as made:
        yield made
