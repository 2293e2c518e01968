"""Certificates that run out and credentials that are refused: who is told, and how often."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.alerts.models import Alert, Message
from apps.operations import push_apps
from apps.operations import ready as ready_module
from apps.relay import attention
from apps.relay.models import PushApp
from apps.relay.providers import Checked
from apps.relay.push_apps import store

pytestmark = pytest.mark.django_db

APP = "com.example.mail"


def add(days: float) -> PushApp:
    checked = Checked(b"{}", timezone.now() + timedelta(days=days), {"kind": "certificate"})
    return store("apns", APP, "apns", checked, sandbox=False)


def raised() -> set[str]:
    push_apps.look()
    return {
        key.partition(":")[2]
        for key in Alert.objects.filter(raised=True).values_list("key", flat=True)
    }


def when(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(timezone, "now", lambda: moment)


def test_each_threshold_is_raised_once_and_a_replacement_clears_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = add(40)
    assert raised() == set()
    now = timezone.now()
    reached = []
    for day in range(9, 41):
        with monkeypatch.context() as patch:
            when(patch, now + timedelta(days=day, hours=1))
            reached.append(raised())
    assert reached[0] == set()
    assert reached[1] == {f"{app.pk}:30"}
    assert reached[-1] == {f"{app.pk}:{days}" for days in (30, 14, 7, 1)}
    told = Message.objects.filter(raised=True).order_by("pk").values_list("key", "severity")
    assert [(key.rpartition(":")[2], severity) for key, severity in told] == [
        ("30", "warning"),
        ("14", "warning"),
        ("7", "critical"),
        ("1", "critical"),
    ]
    add(365)
    assert raised() == set()
    assert Message.objects.filter(raised=False).count() == 4


def test_a_late_look_tells_only_the_nearest() -> None:
    app = add(6)
    assert raised() == {f"{app.pk}:7"}
    assert APP in Alert.objects.get().facts


def test_what_the_push_service_refuses_is_an_alert_until_it_accepts() -> None:
    app = add(300)
    PushApp.objects.update(trouble="InvalidProviderToken", trouble_at=timezone.now())
    assert raised() == {str(app.pk)}
    assert "InvalidProviderToken" in Alert.objects.get().facts
    PushApp.objects.update(trouble="", trouble_at=None)
    assert raised() == set()


def test_a_relay_alone_logs_each_threshold_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(20)
    now = timezone.now()
    with caplog.at_level(logging.WARNING, "apps.relay"):
        for day in (0, 1, 2, 7, 8, 14, 20, 21):
            with monkeypatch.context() as patch:
                when(patch, now + timedelta(days=day))
                attention.tell_log()
        assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING", "ERROR", "ERROR"]
        assert all(APP in r.getMessage() for r in caplog.records)
        add(10)
        attention.tell_log()
        assert len(caplog.records) == 5


@pytest.mark.django_db(transaction=True)
def test_ready_asks_for_attention_and_stays_ready(client: Client) -> None:
    for days, code in ((300, "ok"), (29, "attention")):
        add(days)
        ready_module._of_relay._found_at = float("-inf")
        answer = client.get("/nws/ready")
        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "checks": {"database": "ok", "push_apps": code}}
