"""The list of blocks and revocations: every line is whole, and what is none is left out."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from apps import revocations
from apps.devices import blocks
from apps.operations.backup.replay import replay
from apps.tenants import tokens
from apps.tenants.groups import create_group
from apps.tenants.models import ApiToken


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ens = settings.ENS.model_copy(update={"data_dir": tmp_path})
    monkeypatch.setattr(settings, "ENS", ens)
    return revocations.file()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.django_db(transaction=True)
def test_what_was_rolled_back_is_not_listed(listed: Path) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        blocks.add("0001", [("uem", "a" * 64)], reason="compliance")
        raise ZeroDivisionError
    assert not listed.exists()
    blocks.add("0001", [("uem", "a" * 64)], reason="compliance")
    blocks.add("0001", [("uem", "a" * 64)], reason="compliance")
    blocks.lift("0001", iter([("uem", "a" * 64)]))
    assert [line["what"] for line in lines(listed)] == ["block", "unblock"]


@pytest.mark.django_db(transaction=True)
def test_a_list_that_cannot_be_written_stops_no_block(
    listed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed.mkdir()
    og = create_group("Example")
    token = tokens.issue_token(og, "phones")
    assert tokens.revoke(ApiToken.objects.get())
    assert tokens.authenticate(token) is None
    assert "can't be written" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        b'{"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": "api_tok',
        b'{"v": 2, "at": "2026-01-01T00:00:00+00:00", "what": "api_token", "hash": "a"}',
        b'{"v": 1, "at": "2026-01-01T00:00:00", "what": "api_token", "hash": "a"}',
        b'{"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": ["api_token"], "hash": "a"}',
        b'{"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": "api_token", "hash": 1}',
        b'{"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": "api_token"}',
        b'{"v": 1, "at": 5, "what": "api_token", "hash": "a"}',
        b"[]",
        b"\xff\x00",
        b"x" * 5000,
    ],
)
def test_what_is_no_entry_is_counted(line: bytes, tmp_path: Path) -> None:
    good = b'{"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": "api_token", "hash": "a"}\n'
    path = tmp_path / "list"
    path.write_bytes(line + b"\n" + good)
    entries, torn = revocations.read(path)
    assert [entry.facts for entry in entries] == [{"hash": "a"}]
    assert torn >= 1


def test_after_a_torn_line_comes_a_whole_one(listed: Path) -> None:
    listed.write_bytes(b'{"v": 1, "at": "20')
    revocations._append("api_token", {"hash": "a"})
    entries, torn = revocations.read(listed)
    assert (len(entries), torn) == (1, 1)


def _append_many(folder: Path, number: int) -> None:
    settings.ENS = settings.ENS.model_copy(update={"data_dir": folder})
    for count in range(50):
        revocations._append("api_token", {"hash": f"{number}-{count}-" + "x" * 500})


def test_processes_do_not_write_into_each_others_lines(listed: Path) -> None:
    context = multiprocessing.get_context("fork" if hasattr(__import__("os"), "fork") else "spawn")
    workers = [context.Process(target=_append_many, args=(listed.parent, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    entries, torn = revocations.read(listed)
    assert (len({entry.facts["hash"] for entry in entries}), torn) == (200, 0)


@pytest.mark.django_db(transaction=True)
def test_the_order_counts_and_not_the_file(listed: Path, tmp_path: Path) -> None:
    og = create_group("Example")
    names = [("uem", "a" * 64)]
    for _ in range(2):
        blocks.add(og.path, names, reason="compliance")
        blocks.lift(og.path, names)
    blocks.add(og.path, names, reason="compliance")
    blocks.lift(og.path, names)
    entries, _ = revocations.read(listed)
    done = replay(reversed(entries), None)
    assert not blocks.listed(og, names)
    assert done == {"block": 3, "unblock": 3}
    assert replay(entries[:1], None) == {"block": 1}
    assert blocks.listed(og, names)


@pytest.mark.django_db
def test_a_group_that_is_not_there_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "list"
    fact = {"kind": "uem", "value": "a" * 64, "scope": "00990099", "reason": "compliance"}
    entry = {"v": 1, "at": "2026-01-01T00:00:00+00:00", "what": "block", **fact}
    odd = entry | {"kind": "odd", "scope": ""}
    path.write_text(f"{json.dumps(entry)}\n{json.dumps(odd)}\n")
    entries, _ = revocations.read(path)
    assert replay(entries, None) == {"unknown": 2}
