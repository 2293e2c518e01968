"""One stand for all tests that may share one. Every test has users of its own, so none meets
another's mail; Exchange's messages are recorded, and `test_schema.py` reads them all at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.lab.stand.ports import HOST
from apps.lab.stand.stand import Stand
from tests.e2e.autodiscover import DNS_PORT
from tests.e2e.road import Road

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is slow, and the schema test comes last, when there is most to read."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path == _HERE / "test_schema.py")


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    # Nobody answers there but in the test of Autodiscover.
    settings = {"DNS_SERVERS": f"{HOST}:{DNS_PORT}"}
    home = tmp_path_factory.mktemp("e2e") / "stand"
    with Stand(home, record=True, settings=settings) as it:
        yield it


@pytest.fixture
def road(stand: Stand) -> Iterator[Road]:
    road = Road(stand)
    yield road
    road.exchange.clear_faults()
