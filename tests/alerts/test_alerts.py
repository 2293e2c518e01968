"""Alerts: raised once, cleared once, and told once to every URL, over real sockets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import F
from django.utils import timezone
from pydantic import SecretStr

from apps.alerts import sending, tasks
from apps.alerts.models import Alert, Message, Severity
from apps.alerts.service import clear_alert, raise_alert
from tests.alerts.sinks import SmtpSink, WebhookSink, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def webhook() -> Iterator[WebhookSink]:
    with serving(WebhookSink()) as sink:
        yield sink


@pytest.fixture
def mail() -> Iterator[SmtpSink]:
    with serving(SmtpSink()) as sink:
        yield sink


def use(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    changed = settings.ENS.model_copy(update={"alert_urls": [SecretStr(url) for url in urls]})
    monkeypatch.setattr(settings, "ENS", changed)


def time_passes() -> None:
    """What waits for another try is due."""
    Message.objects.update(due_at=timezone.now() - timedelta(seconds=1))


def test_raised_once_and_cleared_once() -> None:
    assert raise_alert("relay", Severity.CRITICAL, "relay_unavailable", {"calls": 3})
    assert not raise_alert("relay", Severity.CRITICAL, "relay_unavailable", {"calls": 4})
    assert clear_alert("relay")
    assert not clear_alert("relay")
    assert not clear_alert("never_raised")
    assert raise_alert("relay", Severity.CRITICAL, "relay_unavailable", {"calls": 5})
    assert [(m.raised, m.facts) for m in Message.objects.order_by("pk")] == [
        (True, '{"calls": 3}'),
        (False, '{"calls": 3}'),
        (True, '{"calls": 5}'),
    ]
    assert Alert.objects.get().raised


def test_many_processes_raise_one_alert() -> None:
    raised: list[bool] = []
    ready = threading.Barrier(6)

    def process() -> None:
        ready.wait()
        raised.append(raise_alert("relay", Severity.WARNING, "relay_unavailable"))
        connection.close()

    for _ in range(2):
        threads = [threading.Thread(target=process) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clear_alert("relay")
    assert sum(raised) == 2
    assert Message.objects.count() == 4


def test_facts_hold_nothing_personal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        raise_alert("a", Severity.WARNING, "c", {"who": "anna@example.com", "n": 1})
    assert Alert.objects.get().facts == '{"who": "?", "n": 1}'
    assert "anna" not in caplog.text


def test_told_by_mail_and_webhook(
    monkeypatch: pytest.MonkeyPatch, webhook: WebhookSink, mail: SmtpSink
) -> None:
    use(monkeypatch, webhook.url, mail.url)
    raise_alert("worker_gone", Severity.CRITICAL, "worker_gone", {"minutes": 2})
    assert tasks.send() == 1
    assert tasks.send() == 0
    clear_alert("worker_gone")
    assert tasks.send() == 1
    assert [(post["title"], post["type"]) for post in webhook.posts] == [
        ("ENS on ens.example: worker_gone raised", "failure"),
        ("ENS on ens.example: worker_gone cleared", "success"),
    ]
    assert "severity: critical" in webhook.posts[0]["message"]
    assert "minutes: 2" in webhook.posts[0]["message"]
    assert len(mail.mails) == 2
    assert "worker_gone raised" in mail.mails[0]
    assert "To: admin@ens.example" in mail.mails[0]


def test_who_was_away_is_told_later_and_the_others_once(
    monkeypatch: pytest.MonkeyPatch,
    webhook: WebhookSink,
    mail: SmtpSink,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use(monkeypatch, webhook.url, mail.url)
    webhook.away = True
    raise_alert("relay", Severity.WARNING, "relay_unavailable")
    with caplog.at_level(logging.DEBUG):
        assert tasks.send() == 0
        assert tasks.send() == 0  # not due yet
        assert webhook.calls == 1
        time_passes()
        assert tasks.send() == 0
    webhook.away = False
    time_passes()
    assert tasks.send() == 1
    time_passes()
    assert tasks.send() == 0
    assert (len(webhook.posts), len(mail.mails)) == (1, 1)
    assert "hunter2" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_two_processes_tell_it_once(monkeypatch: pytest.MonkeyPatch, webhook: WebhookSink) -> None:
    use(monkeypatch, webhook.url)
    raise_alert("relay", Severity.WARNING, "relay_unavailable")

    def process() -> None:
        tasks.send()
        connection.close()

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(webhook.posts) == 1


def test_an_url_that_cannot_be_used_is_named_by_its_scheme_only(
    monkeypatch: pytest.MonkeyPatch, webhook: WebhookSink, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, "nosuch://user:secret@host", webhook.url)
    raise_alert("relay", Severity.WARNING, "relay_unavailable")
    assert tasks.send() == 0
    assert len(webhook.posts) == 1
    assert "nosuch" in caplog.text
    assert "secret" not in caplog.text


def test_without_urls_nothing_waits() -> None:
    raise_alert("relay", Severity.WARNING, "relay_unavailable")
    assert tasks.send() == 1
    assert Message.objects.get().sent_at is not None


def test_what_is_a_day_late_is_given_up_and_old_messages_go(
    monkeypatch: pytest.MonkeyPatch, webhook: WebhookSink
) -> None:
    use(monkeypatch, webhook.url)
    raise_alert("relay", Severity.WARNING, "relay_unavailable")
    Message.objects.update(at=F("at") - timedelta(days=1, hours=1))
    assert tasks.send() == 0
    assert webhook.calls == 0
    Message.objects.update(at=F("at") - timedelta(days=31))
    tasks.send()
    assert not Message.objects.exists()


def test_the_event_log_is_on_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    use(monkeypatch, "eventlog://ENS")
    monkeypatch.setattr(sending, "_on_windows", lambda: False)
    raise_alert("relay", Severity.CRITICAL, "relay_unavailable")
    assert tasks.send() == 0

    class Handler:
        def __init__(self, source: str) -> None:
            written.append(source)

        def emit(self, record: logging.LogRecord) -> None:
            written.append(f"{record.levelname} {record.getMessage()}")

    monkeypatch.setattr(sending, "NTEventLogHandler", Handler)
    monkeypatch.setattr(sending, "_on_windows", lambda: True)
    time_passes()
    assert tasks.send() == 1
    assert written[0] == "ENS"
    assert written[1].startswith("ERROR ENS on ens.example: relay_unavailable raised\n")
