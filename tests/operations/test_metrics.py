"""`metrics`: who may read it, and that Prometheus' own parser finds the numbers."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from apps.alerts.models import Severity
from apps.alerts.service import raise_alert
from apps.devices.models import Mailbox
from apps.eventlog.factory import get_log
from apps.eventlog.interface import NewEntry
from apps.history import buffer as history_buffer
from apps.history import counters, names
from apps.subscriptions.entries import MAIL
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system

pytestmark = pytest.mark.django_db

PATH = "/MailNotificationService/metrics"
TOKEN = "t" * 32


@pytest.fixture
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = settings.ENS.model_copy(update={"metrics_token": SecretStr(TOKEN)})
    monkeypatch.setattr(settings, "ENS", changed)
    monkeypatch.setattr(history_buffer.buffer, "_counts", type(history_buffer.buffer._counts)())


def test_without_a_token_in_the_settings_there_is_no_such_page(client: Client) -> None:
    answer = client.get(PATH, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 404


@pytest.mark.usefixtures("_token")
@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", "Bearer ü"])
def test_a_wrong_token_reads_nothing(client: Client, given: str) -> None:
    answer = client.get(PATH, headers={"Authorization": given})
    assert answer.status_code == 401
    assert b"ens_" not in answer.content


@pytest.mark.usefixtures("_token")
def test_prometheus_finds_counters_histogram_and_gauges(client: Client) -> None:
    counters.count(names.RECEIVED, 3)
    counters.count(names.PUSHES, 2, label="accepted")
    counters.count(names.PUSHES, label="dead")
    counters.count(names.WAKE_UPS, 4, label="accepted")
    for milliseconds in (80, 200, 400_000):
        counters.observe(names.LATENCY, milliseconds)
    history_buffer.buffer.flush()
    system = add_mail_system(create_group("Example"), "Exchange", ["mail.example.com"])
    mailbox = Mailbox.objects.create(mail_system=system, user_hmac="u")
    Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x.example/")
    get_log().append(NewEntry(MAIL, "p", b"x"))
    raise_alert("relay", Severity.WARNING, "relay_unavailable")

    answer = client.get(PATH, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }
    assert found["ens_notifications_received_total",] == 3
    assert found["ens_pushes_total", "accepted"] == 2
    assert found["ens_pushes_total", "dead"] == 1
    assert found["ens_webhook_to_push_seconds_bucket", "0.1"] == 1
    assert found["ens_webhook_to_push_seconds_bucket", "0.25"] == 2
    assert found["ens_webhook_to_push_seconds_bucket", "300.0"] == 2
    assert found["ens_webhook_to_push_seconds_bucket", "+Inf"] == 3
    assert found["ens_webhook_to_push_seconds_count",] == 3
    assert found["ens_webhook_to_push_seconds_sum",] == pytest.approx(400.28)
    assert found["ens_log_depth", "mail"] == 1
    assert found["ens_log_depth", "join"] == 0
    assert found["ens_subscriptions", "active"] == 1
    assert found["ens_alerts", "relay_unavailable"] == 1
    assert found["ens_proof_failures_total",] == 0
    assert found["ens_wake_ups_total", "accepted"] == 4


@pytest.mark.usefixtures("_token")
def test_every_name_is_shown(client: Client) -> None:
    """A counter that somebody adds is to be seen, and described."""
    answer = client.get(PATH, headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    for constant, name in vars(names).items():
        if constant.isupper():
            assert f"ens_{name}" in answer, constant
