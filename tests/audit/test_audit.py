"""The audit log: it keeps what was done, grows only, and holds no secrets."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from datetime import timedelta
from typing import Any, cast

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.audit import export, service
from apps.audit.models import AuditEntry, AuditIsAppendOnly
from apps.tenants.groups import create_group
from apps.tenants.models import ApiToken
from apps.tenants.tokens import issue_token

append_only = importlib.import_module("apps.audit.migrations.0002_append_only")


def record(**changes: Any) -> AuditEntry:
    given: dict[str, Any] = {
        "actor": "anna",
        "action": "device.block",
        "target": "0001",
        "og_path": "00010002",
        "before": {"state": "active"},
        "after": {"state": "blocked"},
    }
    service.record(**(given | changes))
    return cast(AuditEntry, AuditEntry.objects.first())


@pytest.mark.django_db
def test_who_when_from_where_before_and_after() -> None:
    entry = record(address="192.0.2.7")
    assert (entry.actor, entry.address, entry.action) == ("anna", "192.0.2.7", "device.block")
    assert abs((entry.at - timezone.now()).total_seconds()) < 5
    assert (entry.before, entry.after) == ({"state": "active"}, {"state": "blocked"})


@pytest.mark.django_db
def test_the_model_refuses_to_change_and_to_delete() -> None:
    entry = record()
    entry.actor = "somebody else"
    rows = AuditEntry.objects.all()
    for forbidden in (
        entry.save,
        entry.delete,
        rows.delete,
        lambda: rows.update(actor="x"),
        lambda: rows.bulk_update([entry], ["actor"]),
    ):
        with pytest.raises(AuditIsAppendOnly):
            forbidden()
    assert AuditEntry.objects.get().actor == "anna"


@pytest.mark.django_db
def test_the_database_refuses_to_change_and_to_delete() -> None:
    if connection.vendor not in ("sqlite", "postgresql"):
        pytest.skip("no trigger on this database")
    entry = record()
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":  # tests/conftest.py dropped it
            cursor.execute(append_only.SQLITE[1])
        for statement in ("UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry"):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                cursor.execute(statement)
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            AuditEntry.objects.all().expire([entry.pk])
    assert AuditEntry.objects.get().actor == "anna"


@pytest.mark.django_db
def test_entries_go_when_their_time_is_over(settings: Any, monkeypatch: Any) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(append_only.SQLITE[1])
    today = timezone.now()
    settings.ENS = settings.ENS.model_copy(update={"audit_days": 100})
    monkeypatch.setattr(timezone, "now", lambda: today - timedelta(days=101))
    record(target="over")
    monkeypatch.setattr(timezone, "now", lambda: today - timedelta(days=99))
    record(target="young")
    settings.ENS = settings.ENS.model_copy(update={"audit_days": 30})
    monkeypatch.setattr(timezone, "now", lambda: today)
    assert service.purge() == 1
    # The setting was 100 when it was written: a shorter one later changes nothing for it.
    assert [entry.target for entry in AuditEntry.objects.all()] == ["young"]
    settings.ENS = settings.ENS.model_copy(update={"audit_days": 200})
    assert service.purge() == 0


@pytest.mark.django_db
def test_a_rows_changes_without_its_secrets() -> None:
    og = create_group("Acme")
    secret = issue_token(og, "phones")
    token = ApiToken.objects.get()
    before = service.snapshot(token)
    token.label, token.token_hash = "tablets", "0" * 64
    was, now = service.changes(before, service.snapshot(token))
    assert set(was or {}) == set(now or {}) == {"label", "token_hash"}
    entry = record(before=was, after=now)
    assert entry.before == {"label": "phones", "token_hash": service.HIDDEN}
    assert entry.after == {"label": "tablets", "token_hash": service.HIDDEN_CHANGED}
    assert secret not in repr(before) and "0" * 64 not in repr(now)
    declared = service.snapshot(token, secret={"label"})
    entry = record(before=service.snapshot(token), after=declared)
    assert entry.after is not None and entry.after["label"] in (
        service.HIDDEN,
        service.HIDDEN_CHANGED,
    )


@pytest.mark.django_db
def test_a_secret_that_changed_says_so() -> None:
    was, now = service.changes(
        {"ca": service.Secret("one"), "same": service.Secret("x")},
        {"ca": service.Secret("two"), "same": service.Secret("x")},
    )
    entry = record(before=was, after=now)
    assert entry.before == {"ca": service.HIDDEN}
    assert entry.after == {"ca": service.HIDDEN_CHANGED}


@pytest.mark.django_db
def test_a_secret_that_nobody_declared_is_hidden_by_its_name() -> None:
    canary = "canary-4711"
    names = [
        "password",
        "push_token",
        "token",
        "client_secret",
        "key_pem",
        "api_key",
        "credentials",
    ]
    entry = record(after=dict.fromkeys(names, canary) | {"deep": [{"password": canary}]})
    assert canary not in json.dumps(entry.after)
    entry = record(after={"data": canary.encode(), "public_key_id": "kid-1"})
    assert canary not in json.dumps(entry.after)
    assert entry.after is not None and entry.after["public_key_id"] == "kid-1"


@pytest.mark.django_db
def test_hostile_values_are_stored_as_harmless_text() -> None:
    deep: dict[str, Any] = {}
    deep["again"] = deep
    entry = record(
        actor="a\u202enna\nroot",
        target="x" * 500,
        after={"name": "\ud800\0" + "y" * 5000, "deep": deep, "n": float("nan")},
    )
    assert "\u202e" not in entry.actor and "\n" not in entry.actor
    assert len(entry.target) == 200
    assert entry.after is not None and len(entry.after["name"]) <= 2001
    assert len(json.dumps(entry.after)) < 20_000


@pytest.mark.django_db
def test_who_sees_what() -> None:
    record(target="ours", og_path="00010002")
    record(target="below", og_path="000100020003")
    record(target="above", og_path="0001")
    record(target="other", og_path="0002")
    record(target="deployment", og_path="")
    seen = service.visible(["00010002", "000100020003"])
    assert {entry.target for entry in seen} == {"ours", "below"}
    assert service.visible(None).count() == 5
    assert not service.visible([]).exists()
    assert not service.visible([""]).exists()
    assert [e.target for e in service.search(service.visible(None), "OTHER")] == ["other"]


def test_the_command_line_has_a_name() -> None:
    assert re.fullmatch(r"command line \(.+\)", service.command_line())


@pytest.mark.django_db
def test_exports_are_safe_and_complete() -> None:
    record(actor="=cmd|' /C calc'!A0", target="\t+1", after={"name": "@SUM(1)"})
    record(target='quote " and, comma')
    text = "".join(export.entries_as_csv(AuditEntry.objects.order_by("id")))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["actor"] for row in rows] == ["'=cmd|' /C calc'!A0", "anna"]
    assert rows[0]["target"].startswith("'") or rows[0]["target"] == "1"
    assert rows[1]["target"] == 'quote " and, comma'
    assert json.loads(rows[1]["after"]) == {"state": "blocked"}
    lines = "".join(export.entries_as_json_lines(AuditEntry.objects.order_by("id"))).splitlines()
    assert [json.loads(line)["actor"] for line in lines] == ["=cmd|' /C calc'!A0", "anna"]


@given(st.text())
def test_no_cell_begins_like_a_formula(text: str) -> None:
    cell = export.safe_cell(text)
    assert cell.lstrip()[:1] not in export._FORMULA
    assert "\n" not in cell and "\r" not in cell and "\u202e" not in cell
