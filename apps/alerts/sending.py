"""Sends what is to be told: by mail, webhook, syslog, … through Apprise; to the Event Log.

A message is sent by one process at a time, and to each URL until that has taken it once.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from functools import cache
from logging.handlers import NTEventLogHandler
from typing import Any, Final
from urllib.parse import urlsplit

from apprise import Apprise, NotifyFormat, NotifyType
from apprise.decorators import notify
from django.conf import settings
from django.utils import timezone

from apps.alerts.models import Message, Severity
from apps.vault.lookup import lookup_hmac
from apps.vault.redact import where

log = logging.getLogger(__name__)

# Longer than one try may take: mail servers have half a minute.
_CLAIM: Final = timedelta(minutes=2)
_BACK_OFF_S: Final = (10, 30, 60, 300, 900)
# What could not be told in this time is given up; the alert itself still stands.
_PATIENCE: Final = timedelta(days=1)
_KEPT: Final = timedelta(days=30)
_AT_ONCE: Final = 20


def send_due() -> int:
    """Send what is due, oldest first; returns how many messages have now reached every URL."""
    now = timezone.now()
    Message.objects.filter(at__lt=now - _KEPT).delete()
    due = Message.objects.filter(sent_at=None, due_at__lte=now, at__gte=now - _PATIENCE)
    sent = 0
    for message in due.order_by("pk")[:_AT_ONCE]:
        mine = Message.objects.filter(pk=message.pk, sent_at=None, due_at=message.due_at)
        if mine.update(due_at=timezone.now() + _CLAIM):
            sent += _send(message)
    return sent


def _send(message: Message) -> bool:
    urls = {lookup_hmac("alert-url", url): url for url in _urls()}
    taken = {one for one in message.taken_by.split(",") if one}
    for name in urls.keys() - taken:
        if _deliver(urls[name], message):
            taken.add(name)
    done = urls.keys() <= taken
    now = timezone.now()
    wait = _BACK_OFF_S[min(message.tries, len(_BACK_OFF_S) - 1)]
    Message.objects.filter(pk=message.pk).update(
        taken_by=",".join(sorted(taken)),
        sent_at=now if done else None,
        tries=message.tries + 1,
        due_at=now + timedelta(seconds=wait),
    )
    if not done:
        log.warning("alert %s: %d of %d not told yet", message, len(urls) - len(taken), len(urls))
    return done


def _urls() -> list[str]:
    return [url.get_secret_value() for url in settings.ENS.alert_urls]


def _deliver(url: str, message: Message) -> bool:
    """Hand a message to one URL; False when it was not taken. No text of Apprise is logged."""
    _know_event_log()
    way = Apprise()
    try:
        if not way.add(url):
            log.error("an URL in ENS_ALERT_URLS can't be used; its scheme: %s", _scheme(url))
            return False
        title, body = _text(message)
        return bool(
            way.notify(
                body=body,
                title=title,
                notify_type=_type(message),
                body_format=NotifyFormat.TEXT,
            )
        )
    except Exception as error:  # noqa: BLE001 - plugins raise what their libraries raise
        log.warning("an alert was not taken: %s", where(error))
        return False


def _scheme(url: str) -> str:
    scheme = urlsplit(url).scheme
    return scheme if scheme.isalnum() and len(scheme) <= 12 else "?"


def _type(message: Message) -> NotifyType:
    if not message.raised:
        return NotifyType.SUCCESS
    critical = message.severity == Severity.CRITICAL
    return NotifyType.FAILURE if critical else NotifyType.WARNING


def _text(message: Message) -> tuple[str, str]:
    """Title and body: plain lines that a person and a script can read."""
    state = "raised" if message.raised else "cleared"
    host = urlsplit(settings.ENS.link_address).hostname
    lines = [
        f"alert: {message.key}",
        f"code: {message.code}",
        f"state: {state}",
        f"severity: {message.severity}",
        f"at: {message.at:%Y-%m-%dT%H:%M:%SZ}",
        f"deployment: {host}",
    ]
    lines += [f"{name}: {value}" for name, value in json.loads(message.facts).items()]
    lines.append("What to do: docs/operations.md, Alerts")
    return f"ENS on {host}: {message.code} {state}", "\n".join(lines)


@cache
def _know_event_log() -> None:
    """Teach Apprise the scheme `eventlog://`; its own `windows://` pops up on a desktop only."""
    decorate: Any = notify
    decorate(on="eventlog", name="Windows Event Log")(_write_event)


def _on_windows() -> bool:
    return os.name == "nt"


def _write_event(body: str, title: str, notify_type: NotifyType, *args: Any, **kwargs: Any) -> bool:
    """Write to the Application log as the source `ENS`; False on any other system."""
    if not _on_windows():
        return False
    levels = {NotifyType.FAILURE: logging.ERROR, NotifyType.WARNING: logging.WARNING}
    level = levels.get(notify_type, logging.INFO)
    record = logging.LogRecord("ENS", level, "", 0, f"{title}\n{body}", None, None)
    NTEventLogHandler("ENS").emit(record)
    return True
