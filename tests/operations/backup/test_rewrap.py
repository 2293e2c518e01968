"""A new master key, under load and under kill -9; and after a leak everything else anew."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from django.apps import apps
from django.db import models

from apps.operations import rewrap
from apps.vault.wrapping import key_id_of
from tests.operations.backup.deployment import ROOT, Deployment, url_of
from tests.postgres import Postgres


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


BEGIN = """
from apps.operations import rewrap
fill()
many(3000)
new = run("ens_rewrap", "--add-key").split()[0]
answer = [opened(), rewrap.count().by_key, new]
"""
END = """
from apps.operations import rewrap
answer = [rewrap.count().by_key, opened(), run("ens_rewrap", "--drop-old"), run("ens_rewrap")]
answer += [rewrap.count().by_key, run("ens_rewrap", "--to", facts["new"])]
answer += [run("ens_rewrap", "--drop-old"), opened()]
"""
DAMAGED = """
fill()
it = Device.objects.first()
Device.objects.filter(pk=it.pk).update(push_token_sealed=bytes(it.push_token_sealed)[:-1])
new = run("ens_rewrap", "--add-key").split()[0]
answer = [it.pk, run("ens_rewrap", "--to", new), run("ens_rewrap", "--drop-old")]
answer.append(run("ens_rewrap", "--to", "nobody"))
"""


@contextmanager
def connected(deployment: Deployment, url: str) -> Iterator[Any]:
    """The database itself: asking it through a process of ENS would take too long."""
    if url:
        connection: Any = psycopg2.connect(url)
        connection.autocommit = True
    else:
        connection = sqlite3.connect(deployment.home / "data" / "ens.sqlite3")
    yield connection.cursor()
    connection.close()


def wrapped_by(cursor: Any, key_id: str) -> int:
    cursor.execute("SELECT push_token_sealed FROM devices_device")
    return sum(key_id_of(blob) == key_id for (blob,) in cursor.fetchall())


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_killed_and_begun_again(
    vendor: str, blank: Deployment, request: Any, tmp_path: Path
) -> None:
    url = ""
    if vendor == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = url_of(server.create_database())
    it = Deployment(tmp_path / "it", url, blank)
    mode = it.master_key.stat().st_mode
    opened, before, new = it.inside(BEGIN)
    (old,) = before
    assert new != old
    with connected(it, url) as cursor:
        running = it.start("ens_rewrap", "--to", new)
        while not wrapped_by(cursor, new) and running.poll() is None:
            time.sleep(0.02)
        running.kill()
        running.communicate()
    half, opens, refused, _, whole, again, _, at_last = it.inside(END, new=new)
    assert half[old] and half[new], "killed too early or too late to prove anything"
    assert opens == at_last == opened
    assert "still needed" in refused
    assert whole == {new: sum(before.values())}
    # Its own audit entry is the only thing that it adds.
    assert "0 wrapped anew" in again
    assert f"{old}:" not in it.master_key.read_text()
    assert it.master_key.stat().st_mode == mode


@pytest.mark.slow
def test_a_damaged_value_is_named_and_holds_up_the_end(blank: Deployment, tmp_path: Path) -> None:
    it = Deployment(tmp_path / "it", like=blank)
    device, said, refused, nobody = it.inside(DAMAGED)
    assert f"devices.Device.push_token_sealed of {device}" in said
    assert "still needed" in refused
    assert "no key 'nobody'" in nobody
