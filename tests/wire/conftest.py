from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from apps.wire.client import Client
from tests.wire.servers import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client()
    yield client
    await client.close()
