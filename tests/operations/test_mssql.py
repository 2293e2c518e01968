"""What audit, blocks, persons and keys ask of the database compiles for SQL Server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.utils.connection import ConnectionProxy

from apps.administrators.scope import below
from apps.audit import service as audit
from apps.audit.models import AuditEntry
from apps.cns import keys
from apps.cns.models import SecureChannelKey
from apps.devices import blocks, registry
from apps.devices.models import Device
from apps.history import stories
from apps.operations import database_clock, device_actions, lease, persons, secure_channel
from apps.operations.device_actions import By
from apps.tenants.models import OrganizationGroup
from apps.vault import lookup
from tests.eventlog.test_mssql import Script, script  # noqa: F401
from tests.history.test_mssql import on_mssql  # noqa: F401

OG = OrganizationGroup(pk=1, path="00010001", depth=2, numchild=0, name="Sales")
NAMES: list[blocks.Name] = [("uem", "a" * 64), ("push-token", "b" * 64)]
BY = By("admin", og_paths=("00010001",))
MANY = [uuid.UUID(int=number) for number in range(2_500)]


def _record() -> None:
    audit.record(
        actor="a", action="b", target="c", og_path=OG.path, before=None, after={"names": ["x"]}
    )


@pytest.mark.parametrize(
    "does",
    [
        _record,
        lambda: list(audit.search(audit.visible(["0001", "0002"]), "x%_[")[:10]),
        audit.purge,
        lambda: blocks.listed(OG, NAMES),
        lambda: blocks.add("0001", NAMES, reason="administrator"),
        lambda: blocks.lift("0001", NAMES),
        lambda: device_actions.block_named(OG, "uem", "x", BY, shred_now=True),
        lambda: device_actions.unblock_named(OG, "uem", "x", BY),
        lambda: registry.unblock(MANY[0]),
        lambda: registry.proved(MANY[0]),
        lambda: persons.held("anna@example.com", BY),
        lambda: persons.forget("anna@example.com", By("admin")),
        lambda: stories.forget(MANY),
        lambda: lease.standing(lease.BEAT),
        lambda: lease.Holder(lease.BEAT).take(),
        lambda: lease.Holder(lease.BEAT).give_back(),
        secure_channel.listed,
        keys.current,
        lambda: keys.put_into_use(SecureChannelKey(pk=1)),
        lambda: list(
            below(Device.objects.select_related("og", "mailbox"), BY.og_paths, "og__path")
            .filter(id__gt=MANY[1])
            .order_by("id")[:101]
        ),
        lambda: list(AuditEntry.objects.filter(id__lt=7).order_by("-id")[:101]),
    ],
)
def test_it_compiles_and_keeps_to_the_limits(
    does: Callable[[], Any],
    on_mssql: Script,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookup, "_key", lambda: bytes(32))
    monkeypatch.setattr(database_clock, "connection", ConnectionProxy(connections, "mssql"))
    on_mssql.answers = {
        "INSERT INTO [audit_entry]": [(1,)],
        "INSERT INTO [devices_block]": [(1,)],
        "SYSUTCDATETIME()": [(1.5,)],
    }
    does()
    assert on_mssql.statements
    for sql, params in on_mssql.statements:
        assert len(params) <= 2_100
        assert not re.search(r"\bLIMIT\b|ON CONFLICT|FOR UPDATE|RETURNING", sql)
