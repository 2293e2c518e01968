"""docs/compatibility.md says what is true today."""

from __future__ import annotations

import pytest

from tests.exchange.auth.ways import WAYS
from tests.exchange.matrix import PAGE, PATHS, PRODUCTS, page


@pytest.mark.slow
def test_the_page_is_what_happens() -> None:
    found = page()
    assert found.count("| yes") >= len(WAYS) * len(PRODUCTS) * 2
    assert PAGE.read_text("utf-8") == found, "run: python -m tests.exchange.matrix"


def test_the_page_has_a_line_for_every_way() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    assert sum(line.startswith(f"| {way} |") for line in lines for way in WAYS) == len(WAYS) * len(
        PATHS
    )
