"""A backup of SQLite comes back on PostgreSQL, and of PostgreSQL on SQLite, as it was."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.operations.backup.deployment import Deployment, url_of
from tests.operations.backup.filling import SECRETS
from tests.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
LOOK = """
from tests.operations.backup import filling
answer = [filling.digests(), filling.opened()]
"""
# A restore changes these, on purpose; what it makes of them is looked at by itself.
CHANGED = {"devices.Device", "devices.Mailbox", "audit.AuditEntry", "history.LooseEntry"}
STATE = """
from apps.devices.models import Device, Mailbox
from apps.keypairs.models import KeyPair, SealedCredential
from apps.subscriptions.models import Subscription, WakeUp
from apps.tenants import tokens
from apps.administrators import api_tokens
from apps.devices.models import Block
from apps.audit.models import AuditEntry
answer = {
    "devices": sorted(Device.objects.values_list("state", "proved_at")),
    "silent": Device.objects.filter(state="active", silent_since=None).count(),
    "served": Mailbox.objects.exclude(current_subscription=None).count(),
    "keys": KeyPair.objects.count() + SealedCredential.objects.count(),
    "subscriptions": Subscription.objects.count(),
    "woken": WakeUp.objects.filter(reason="restored").count(),
    "token": tokens.authenticate(facts["token"]) is not None,
    "admin_token": api_tokens.authenticate(facts["admin_token"]) is not None,
    "blocks": Block.objects.count(),
    "audited": AuditEntry.objects.filter(action="deployment.restore").count(),
}
"""
SINCE = """
from apps.devices.models import Device
from apps.devices import registry
from apps.administrators.models import AdminApiToken
from apps.administrators import api_tokens
from apps.operations import device_actions
from apps.operations.device_actions import By
from apps.tenants.models import ApiToken
from apps.tenants import tokens
_, one, two = Device.objects.order_by("created_at").select_related("og", "mailbox")
device_actions.block(one, By("test"), shred_now=True, reason="administrator")
device_actions.block(two, By("test"), shred_now=True, reason="administrator")
device_actions.unblock(Device.objects.select_related("og").get(id=two.id), By("test"))
tokens.revoke(ApiToken.objects.get())
api_tokens.revoke(AdminApiToken.objects.get())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path, Any, Any]:
    """A deployment on SQLite, its backup, and what it held and knew then."""
    home = tmp_path_factory.mktemp("backup")
    old = Deployment(home / "old")
    fill = "from tests.operations.backup import filling\nanswer = filling.fill()"
    known = old.inside(fill)
    file = home / "ens.backup"
    said = old.backup(file)
    assert "devices.Device: 3" in said and "SealedCredential" not in said
    held = old.inside(LOOK)
    old.inside(SINCE)
    return old, file, held, known


def test_sqlite_to_postgresql_and_back(
    made: tuple[Deployment, Path, Any, Any], postgres: Postgres, tmp_path: Path
) -> None:
    old, file, (held, opened), known = made
    new = Deployment(tmp_path / "new", url_of(postgres.create_database()), old.master_key)
    said = new.restore(file, "--replay", str(old.home / "data" / "revocations.jsonl"))
    assert "1 phones are asked" in said
    here, opens = new.inside(LOOK)
    assert opens == opened and opened["push token"] == SECRETS["push token"]
    differ = {label for label in held if held[label] != here[label]}
    assert differ <= CHANGED | {"devices.Block", "tenants.ApiToken", "administrators.AdminApiToken"}
    state = new.inside(STATE, **known)
    assert [each for each, _ in state["devices"]] == ["active", "blocked", "retired"]
    assert {proved for _, proved in state["devices"]} == {None}
    assert state["silent"] == state["served"] == state["keys"] == state["subscriptions"] == 0
    assert state["woken"] == 1
    assert (state["token"], state["admin_token"]) == (False, False)
    assert state["blocks"] == 2 and state["audited"] == 1

    again = tmp_path / "again.backup"
    new.backup(again)
    third = Deployment(tmp_path / "third", "", old.master_key)
    third.restore(again)
    back, _ = third.inside(LOOK)
    held_there = new.inside(LOOK)[0]
    assert {label for label in back if back[label] != held_there[label]} <= CHANGED
    # New rows are numbered after the restored ones.
    third.manage("ens_og", "create", "After")
    new.manage("ens_og", "create", "After")
    # A list that turns up later is replayed by itself, and twice does no harm.
    third.manage("ens_restore", "--replay", str(old.home / "data" / "revocations.jsonl"))
    assert third.inside(STATE, **known)["blocks"] == 2


def test_refusals_change_nothing(made: tuple[Deployment, Path, Any, Any], tmp_path: Path) -> None:
    old, file, _, known = made
    same = Deployment(tmp_path / "same", "", old.master_key)
    before = same.inside(LOOK.partition("answer")[0] + "answer = filling.digests()")
    whole = file.read_bytes()
    broken = tmp_path / "broken"
    for content, says in [
        (whole[:-1], "changed or cut"),
        (whole + b"x", "changed or cut"),
        (whole[:400] + bytes([whole[400] ^ 1]) + whole[401:], "changed or cut"),
        (b"PK" + whole, "no backup"),
        (whole.replace(b"BACKUP-1", b"BACKUP-9", 1), "newer release"),
    ]:
        broken.write_bytes(content)
        assert says in same.restore(broken, fails=True)
    (same.home / "password").write_text("wrong\n")
    assert "the password is wrong" in same.restore(file, fails=True)
    other = Deployment(tmp_path / "other")
    assert "wrong master key" in other.restore(file, fails=True)
    assert same.inside(LOOK.partition("answer")[0] + "answer = filling.digests()") == before
    assert "has rows already" in old.restore(file, fails=True)
    assert "exists already" in old.manage(
        "ens_backup", "--to", str(file), *old.password(), fails=True
    )
    assert file.read_bytes() == whole
    weak = tmp_path / "weak"
    weak.write_text("password\n")
    nowhere = tmp_path / "nowhere"
    words = ["ens_backup", "--to", str(nowhere), "--password-file", str(weak)]
    assert "password" in old.manage(*words, fails=True)
    assert not nowhere.exists()


def test_nothing_stands_there_in_clear(made: tuple[Deployment, Path, Any, Any]) -> None:
    old, file, _, known = made
    listed = (old.home / "data" / "revocations.jsonl").read_bytes()
    kinds = [json.loads(line)["what"] for line in listed.splitlines()]
    assert {"block", "unblock", "api_token", "admin_token"} <= set(kinds)
    for secret in [*SECRETS.values(), *known.values()]:
        raw = secret.encode()
        forms = [
            raw,
            raw.hex().encode(),
            base64.b64encode(raw)[:-4],
            raw.decode().encode("utf-16-le"),
        ]
        for form in forms:
            assert form not in file.read_bytes() and form not in listed
