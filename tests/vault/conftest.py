from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from apps.vault import master, wrapping
from apps.vault.master import MasterKeys


@pytest.fixture
def use_master_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Go on as a process that has read a master key file with these keys, the first current."""

    def use(**keys: bytes) -> None:
        found = MasterKeys(current_id=next(iter(keys)), keys=keys)
        monkeypatch.setattr(master, "master_keys", lambda: found)
        monkeypatch.setattr(wrapping, "master_keys", lambda: found)
        wrapping._cipher.cache_clear()

    yield use
    wrapping._cipher.cache_clear()
