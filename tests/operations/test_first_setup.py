"""What a deployment needs once: made once, all of it or nothing."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.administrators.models import Administrator
from apps.audit.models import AuditEntry
from apps.operations import first_setup, secure_channel
from apps.relay.models import Deployment
from apps.tenants.groups import create_group
from apps.tenants.models import ApiToken, OrganizationGroup
from apps.tenants.tokens import authenticate

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery 9"


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*words: str, password: str = PASSWORD) -> list[str]:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        token_file = str(tmp_path / "token.txt")
        call_command("ens_first", *words, "--token-file", token_file, stdout=out)
        found: list[str] = json.loads(out.getvalue())
        return found

    return run


def test_it_is_made_once(first: Any, tmp_path: Path) -> None:
    assert first("--check") == ["group", "administrator", "token"]
    assert first("--group", "Example", "--administrator", "ada") == [
        "group", "administrator", "token"
    ]  # fmt: skip
    token = (tmp_path / "token.txt").read_text().strip()
    og = authenticate(token)
    assert og is not None and og.name == "Example"
    assert Administrator.objects.get().check_password(PASSWORD)
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "token.txt").stat().st_mode) == 0o600
    assert first("--check") == []
    # Neither another name nor a token file that was put away brings a second one.
    (tmp_path / "token.txt").unlink()
    assert first("--group", "Other", "--administrator", "bob", password="") == []
    assert not (tmp_path / "token.txt").exists()
    assert Administrator.objects.count() == ApiToken.objects.count() == 1
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"administrator.create", "token.create"} <= actions
    told = json.dumps([[entry.target, entry.after] for entry in AuditEntry.objects.all()])
    assert token not in told and PASSWORD not in told


def test_a_weak_password_leaves_nothing(first: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        first(password="short")
    assert "short" not in str(refused.value).replace("too short", "")
    assert not OrganizationGroup.objects.exists() and not ApiToken.objects.exists()
    assert not list(tmp_path.iterdir())


def test_a_token_file_that_can_not_be_written_leaves_nothing(first: Any, tmp_path: Path) -> None:
    (tmp_path / "token.txt").mkdir()
    with pytest.raises(CommandError, match="can't be written"):
        first()
    assert not ApiToken.objects.exists() and not Administrator.objects.exists()


def test_a_group_that_is_there_gets_the_token(first: Any, tmp_path: Path) -> None:
    create_group("Mine")
    assert first() == ["administrator", "token"]
    og = authenticate((tmp_path / "token.txt").read_text().strip())
    assert og is not None and og.name == "Mine"


def test_our_own_relay_comes_to_know_us(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = secure_channel.Signing("t" * 43, "certificate", True, None)
    monkeypatch.setattr(secure_channel, "signing", lambda: ours)
    assert "relay" in first_setup.missing()
    first("--group", "Example")
    assert Deployment.objects.get().name == "Example"
    assert "relay" not in first_setup.missing()
    other = secure_channel.Signing("u" * 43, "other", True, None)
    monkeypatch.setattr(secure_channel, "signing", lambda: other)
    assert first("--group", "Example") == ["relay"]
    assert Deployment.objects.count() == 2
