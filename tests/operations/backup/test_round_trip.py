"""A backup of SQLite comes back on PostgreSQL, and of PostgreSQL on SQLite, as it was."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.operations.backup.deployment import Deployment, url_of
from tests.operations.backup.filling import SECRETS
from tests.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
# A restore changes these, on purpose; what it makes of them is looked at by itself.
CHANGED = {"devices.Device", "devices.Mailbox", "audit.AuditEntry", "history.LooseEntry"}
BACKUP = """
known = fill()
said = run("ens_backup", "--to", facts["file"], "--password-file", facts["password"])
answer = [said, digests(), opened(), known]
"""
SINCE = """
from apps.administrators.models import AdminApiToken
from apps.operations import device_actions, persons
from apps.operations.device_actions import By
from apps.tenants.models import ApiToken
_, one, two, _ = Device.objects.order_by("created_at").select_related("og", "mailbox")
device_actions.block(one, By("test"), shred_now=True, reason="administrator")
device_actions.block(two, By("test"), shred_now=True, reason="administrator")
device_actions.unblock(Device.objects.select_related("og").get(id=two.id), By("test"))
tokens.revoke(ApiToken.objects.get())
persons.forget("user3@example.com", By("test"))
api_tokens.revoke(AdminApiToken.objects.get())
"""
RESTORE = """
words = ["--from", facts["file"], "--password-file", facts["password"], *facts["more"]]
said = run("ens_restore", *words)
answer = [said, digests(), opened(), state(facts["token"], facts["admin_token"])]
"""
AGAIN = """
run("ens_backup", "--to", facts["file"], "--password-file", facts["password"])
answer = digests()
run("ens_og", "create", "After")
"""
LATER = """
run("ens_og", "create", "After")
first = run("ens_restore", "--replay", facts["list"])
answer = [first, run("ens_restore", "--replay", facts["list"]), state("", "")]
"""
REFUSED = """
before = digests()
answer = [
    run("ens_restore", "--from", file, "--password-file", password)
    for file, password in facts["tries"]
]
assert digests() == before
"""


@dataclass(frozen=True)
class Old:
    """A deployment on SQLite, its backup, and what it held and knew then."""

    deployment: Deployment
    file: Path
    held: dict[str, str]
    opened: dict[str, Any]
    known: dict[str, str]

    @property
    def listed(self) -> Path:
        return self.deployment.home / "data" / "revocations.jsonl"

    @property
    def words(self) -> dict[str, Any]:
        """What a restore needs to know."""
        password = str(self.deployment.home / "password")
        return {"file": str(self.file), "password": password, "more": [], **self.known}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, blank: Deployment) -> Old:
    home = tmp_path_factory.mktemp("backup")
    it, file = Deployment(home / "old", like=blank), home / "ens.backup"
    words = {"file": str(file), "password": str(it.home / "password")}
    said, held, opened, known = it.inside(BACKUP, **words)
    assert "devices.Device: 4" in said and "SealedCredential" not in said
    it.inside(SINCE)
    return Old(it, file, held, opened, known)


def test_sqlite_to_postgresql_and_back(
    old: Old, blank: Deployment, postgres: Postgres, tmp_path: Path
) -> None:
    new = Deployment(tmp_path / "new", url_of(postgres.create_database()), old.deployment)
    more = {"more": ["--replay", str(old.listed)]}
    said, here, opens, state = new.inside(RESTORE, **(old.words | more))
    assert "1 phones are asked" in said and "forget: 1 replayed" in said
    assert opens == old.opened and opens["push token"] == SECRETS["push token"]
    differ = {label for label in old.held if old.held[label] != here[label]}
    revoked = {"devices.Block", "tenants.ApiToken", "administrators.AdminApiToken"}
    assert differ == CHANGED - {"history.LooseEntry"} | revoked | differ & {"history.LooseEntry"}
    assert [each for each, _ in state["devices"]] == ["active", "blocked", "retired"]
    assert {proved for _, proved in state["devices"]} == {None}
    assert state["silent"] == state["served"] == state["keys"] == state["subscriptions"] == 0
    assert (state["token"], state["admin_token"]) == (False, False)
    assert (state["woken"], state["blocks"], state["audited"]) == (1, 2, 1)

    again = tmp_path / "again.backup"
    there = new.inside(AGAIN, **(old.words | {"file": str(again)}))
    third = Deployment(tmp_path / "third", like=blank)
    _, back, _, _ = third.inside(RESTORE, **(old.words | {"file": str(again)}))
    assert {label for label in back if back[label] != there[label]} <= CHANGED
    # New rows are numbered after the restored ones; a list that turns up later is replayed by
    # itself, and twice does no harm.
    first, second, state = third.inside(LATER, list=str(old.listed))
    assert "api_token: 1 replayed" in first and "api_token: 1 replayed" in second
    assert state["blocks"] == 2


def test_refusals_change_nothing(old: Old, blank: Deployment, tmp_path: Path) -> None:
    same, whole = Deployment(tmp_path / "same", like=blank), old.file.read_bytes()
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    expected = {
        "changed or cut": [
            whole[:-1],
            whole + b"x",
            whole[:400] + bytes([whole[400] ^ 1]) + whole[401:],
        ],
        "no backup": [b"PK" + whole, b"", whole[:20]],
        "newer release": [whole.replace(b"BACKUP-1", b"BACKUP-9", 1)],
    }
    tries, says = [[str(old.file), str(wrong)]], ["the password is wrong"]
    for text, contents in expected.items():
        for content in contents:
            broken = tmp_path / f"broken{len(tries)}"
            broken.write_bytes(content)
            tries.append([str(broken), old.words["password"]])
            says.append(text)
    for answer, text in zip(same.inside(REFUSED, tries=tries), says, strict=True):
        assert answer.startswith("refused") and text in answer
    right = [[str(old.file), old.words["password"]]]
    assert "has rows already" in old.deployment.inside(REFUSED, tries=right)[0]
    key = same.master_key.read_text()
    same.master_key.write_text(key[:-10] + "AAAAAAAA=\n")
    assert "wrong master key" in same.inside(REFUSED, tries=right)[0]


def test_a_backup_overwrites_nothing_and_wants_a_password(old: Old, tmp_path: Path) -> None:
    weak, whole = tmp_path / "weak", old.file.read_bytes()
    weak.write_text("password\n")
    nowhere = tmp_path / "nowhere"
    said = old.deployment.inside(
        """
answer = [run("ens_backup", "--to", to, "--password-file", of) for to, of in facts["tries"]]
""",
        tries=[[str(old.file), old.words["password"]], [str(nowhere), str(weak)]],
    )
    assert "exists already" in said[0] and old.file.read_bytes() == whole
    assert "refused" in said[1] and not nowhere.exists()
    assert old.file.stat().st_mode & 0o077 == 0


def test_nothing_stands_there_in_clear(old: Old) -> None:
    file, listed = old.file.read_bytes(), old.listed.read_bytes()
    kinds = [json.loads(line)["what"] for line in listed.splitlines()]
    assert {"block", "unblock", "api_token", "admin_token"} <= set(kinds)
    for secret in [*SECRETS.values(), *old.known.values()]:
        raw = secret.encode()
        wide = secret.encode("utf-16-le")
        for form in (raw, raw.hex().encode(), base64.b64encode(raw)[:-4], wide):
            assert form not in file and form not in listed
