from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from apps.keypairs import service
from apps.keypairs.service import PublicKey, current_public_key, rotate
from apps.tenants.groups import create_group
from apps.tenants.models import OrganizationGroup
from tests.vault.conftest import use_master_keys

__all__ = ["use_master_keys"]


@pytest.fixture
def og(db: None) -> OrganizationGroup:
    return create_group("Example")


@pytest.fixture
def key(og: OrganizationGroup) -> PublicKey:
    """The group's current public key."""
    rotate()
    return current_public_key(og)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let time pass: `wait(hours=6)`."""
    passed = timedelta()
    real = timezone.now

    class Clock:
        @staticmethod
        def now() -> datetime:
            return real() + passed

    def add(**time: float) -> None:
        nonlocal passed
        passed += timedelta(**time)

    monkeypatch.setattr(service, "timezone", Clock)
    return add
