"""Pages and pictures that our pages point to are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_points_nowhere(page: Path) -> None:
    targets = [it for it in LINK.findall(page.read_text("utf-8")) if "://" not in it]
    missing = [it for it in targets if not (page.parent / it).exists()]
    assert missing == []
