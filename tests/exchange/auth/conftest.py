from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exchange.auth.kdc import Kdc, kdc
from tests.exchange.auth.ways import MANY, PASSWORDS, many_password


@pytest.fixture(scope="session")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    users = PASSWORDS | {name: many_password(name) for name in MANY}
    with kdc(tmp_path_factory.mktemp("kdc"), users) as running:
        yield running


@pytest.fixture
def in_realm(realm: Kdc, monkeypatch: pytest.MonkeyPatch) -> Kdc:
    """This process belongs to the realm, both as client and as service."""
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    return realm
