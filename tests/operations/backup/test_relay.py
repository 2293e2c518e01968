"""A relay that stands alone is backed up and restored by the same commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.backup.deployment import Deployment

FILL = """
import os
from io import StringIO
from django.core.management import CommandError, call_command
from django.utils import timezone
from apps.relay import push_apps
from apps.relay.models import Deployment, PushApp
from apps.relay.providers import Checked
def run(*words):
    said = StringIO()
    call_command(*words, stdout=said)
    return said.getvalue()
words = ["--password-file", facts["password"]]
"""
BACKUP = """
known = Deployment.objects.create(name="one", thumbprint="t" * 43, certificate="x")
checked = Checked(b'{"key": 1}', None, {"kind": "token"})
push_apps.store("apns", "com.example", "apns", checked, sandbox=True)
known.push_apps.set(PushApp.objects.all())
run("ens_backup", "--to", facts["file"], *words)
run("relay_deployment", "revoke", "--name", "one")
"""
RESTORE = """
run("ens_restore", "--from", facts["file"], "--replay", facts["list"], *words)
new = run("ens_rewrap", "--add-key").split()[0]
run("ens_rewrap", "--to", new)
os.utime(facts["key"], (0, 0))
run("ens_rewrap", "--drop-old")
known = Deployment.objects.get()
(app,) = known.push_apps.all()
answer = [known.revoked_at is not None, push_apps.opened(app).credentials.decode()]
"""


@pytest.mark.slow
def test_a_relay_alone(tmp_path: Path) -> None:
    old = Deployment(tmp_path / "old", roles="relay")
    new = Deployment(tmp_path / "new", like=old, roles="relay")
    words = {
        "password": str(old.home / "password"),
        "file": str(tmp_path / "relay.backup"),
        "list": str(old.home / "data" / "revocations.jsonl"),
    }
    words["key"] = str(new.master_key)
    old.alone(FILL + BACKUP, **words)
    assert new.alone(FILL + RESTORE, **words) == [True, '{"key": 1}']
