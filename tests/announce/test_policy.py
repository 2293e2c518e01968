"""How much may be said to whom."""

from __future__ import annotations

import pytest

from apps.announce.payload import Content
from apps.announce.policy import narrowed


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", None),
        ("generic", None),
        ("sender", Content("Ben", "")),
        ("sender_subject", Content("Ben", "Lunch")),
    ],
)
def test_a_level_narrows_the_content(level: str, expected: Content | None) -> None:
    assert narrowed(Content("Ben", "Lunch"), level) == expected
