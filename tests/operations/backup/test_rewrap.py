"""A new master key, under load and under kill -9; and after a leak everything else anew."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import models

from apps.operations import rewrap
from tests.operations.backup.deployment import ROOT, Deployment, url_of
from tests.postgres import Postgres

LOOK = "from tests.operations.backup import filling\nanswer = filling.opened()"
COUNT = "from apps.operations import rewrap\nanswer = rewrap.count().by_key"
FILL = "from tests.operations.backup import filling\nfilling.fill()"
MANY = """
import uuid
from apps.devices.models import Device
from apps.vault.wrapping import wrap
one = Device.objects.order_by("created_at").last()
rows = []
for number in range(facts["number"]):
    pk = uuid.uuid4()
    sealed = wrap(b"token", table="devices_device", row=str(pk), purpose="push-token")
    rows.append(Device(id=pk, og_id=one.og_id, mailbox_id=one.mailbox_id, platform="ios",
                       app_id="x", push_token_hmac=pk.hex, push_token_sealed=sealed))
Device.objects.bulk_create(rows, batch_size=500)
"""


def test_every_column_of_bytes_is_decided_about() -> None:
    every = {
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.concrete_fields
        if isinstance(field, models.BinaryField)
    }
    named = {f"{column.label}.{column.name}" for column in rewrap.COLUMNS}
    assert every <= named | set(rewrap.NOT_WRAPPED), "name them in apps/operations/rewrap.py"
    assert not named & set(rewrap.NOT_WRAPPED)


def test_whoever_wraps_is_known() -> None:
    """Somebody who wraps into a column of text is not found by its type."""
    found = {
        path.relative_to(ROOT / "apps").as_posix()
        for path in (ROOT / "apps").rglob("*.py")
        if re.search(r"from apps\.vault\.wrapping import .*\bwrap\b", path.read_text("utf-8"))
        and "migrations" not in path.parts
    }
    assert found == {
        "administrators/adapters.py",
        "administrators/sessions.py",
        "cns/keys.py",
        "cns/site.py",
        "devices/labels.py",
        "devices/registry.py",
        "keypairs/rsa.py",
        "keypairs/sealing.py",
        "keypairs/signing.py",
        "operations/rewrap.py",
        "relay/push_apps.py",
        "subscriptions/way.py",
        "vault/keys.py",
    }, "what it wraps must be named in apps/operations/rewrap.py"


def added(deployment: Deployment) -> str:
    return deployment.manage("ens_rewrap", "--add-key").split()[0]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_killed_and_begun_again(vendor: str, request: Any, tmp_path: Path) -> None:
    url = ""
    if vendor == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = url_of(server.create_database())
    it = Deployment(tmp_path / "it", url)
    it.inside(FILL)
    it.inside(MANY, number=3000)
    opened = it.inside(LOOK)
    mode = it.master_key.stat().st_mode
    (old,) = it.inside(COUNT)
    new = added(it)
    assert new != old
    assert it.inside(COUNT).keys() == {old}
    running = it.start("ens_rewrap", "--to", new)
    while new not in it.inside(COUNT) and running.poll() is None:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    running.communicate()
    counts = it.inside(COUNT)
    assert counts.get(old) and counts.get(new), "killed too early or too late to prove anything"
    assert it.inside(LOOK) == opened
    assert "still needed" in it.manage("ens_rewrap", "--drop-old", fails=True)
    it.manage("ens_rewrap")
    assert it.inside(COUNT) == {new: sum(counts.values())}
    assert "0 wrapped anew" in it.manage("ens_rewrap", "--to", new)
    it.manage("ens_rewrap", "--drop-old")
    assert old not in it.master_key.read_text()
    assert it.master_key.stat().st_mode == mode
    assert it.inside(LOOK) == opened


@pytest.mark.slow
def test_a_damaged_value_is_named_and_holds_up_the_end(tmp_path: Path) -> None:
    it = Deployment(tmp_path / "it")
    it.inside(FILL)
    device = it.inside(
        "from apps.devices.models import Device\nd = Device.objects.first()\n"
        "Device.objects.filter(pk=d.pk).update(push_token_sealed=bytes(d.push_token_sealed)[:-1])\n"
        "answer = d.pk"
    )
    new = added(it)
    said = it.manage("ens_rewrap", "--to", new, fails=True)
    assert f"devices.Device.push_token_sealed of {device}" in said
    assert "still needed" in it.manage("ens_rewrap", "--drop-old", fails=True)
    assert "no key 'nobody'" in it.manage("ens_rewrap", "--to", "nobody", fails=True)
