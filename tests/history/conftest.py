from __future__ import annotations

import pytest

from apps.history import buffer


@pytest.fixture(autouse=True)
def _nothing_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests gathered is not ours."""
    monkeypatch.setattr(buffer.buffer, "_entries", [])
    monkeypatch.setattr(buffer.buffer, "_counts", type(buffer.buffer._counts)())
