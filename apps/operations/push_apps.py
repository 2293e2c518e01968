"""Alerts about credentials of push: those of apps at the relay beside us, and our own channel's.

Each threshold before an expiry is an alert of its own, raised once; replacing the credentials
clears them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from django.apps import apps
from django.conf import settings
from django.utils import timezone

from apps.alerts.models import Alert, Severity
from apps.alerts.service import clear_alert, raise_alert
from apps.cns import keys
from apps.relay import thresholds
from apps.vault.redact import Fact

_EXPIRES: Final = "push_app_expires"
_REFUSED: Final = "push_app_refused"
_CHANNEL: Final = "channel_certificate_expires"


@dataclass(frozen=True, slots=True)
class _Standing:
    """An alert that stands. `fresh`: to be raised now; else it only stays if it is raised."""

    key: str
    code: str
    severity: Severity
    facts: dict[str, Fact]
    fresh: bool = True


def look() -> None:
    """Raise and clear what is to be."""
    standing = {each.key: each for each in (*_apps(), *_channel())}
    ours = Alert.objects.filter(raised=True, code__in=(_EXPIRES, _REFUSED, _CHANNEL))
    raised = set(ours.values_list("key", flat=True))
    for key, each in standing.items():
        if each.fresh and key not in raised:
            raise_alert(key, each.severity, each.code, each.facts)
    for key in raised - standing.keys():
        clear_alert(key)


def _apps() -> Iterator[_Standing]:
    """What is the matter with the push apps, where the relay is beside us."""
    if not apps.is_installed("apps.relay"):
        return
    from apps.relay import attention
    from apps.relay.models import PushApp

    now = timezone.now()
    for each in attention.expiring_apps(now):
        yield from _thresholds(
            f"{_EXPIRES}:{each.pk}", _EXPIRES, each.expires_at, now, {"push_app": each.name}
        )
    for app in PushApp.objects.exclude(trouble=""):
        facts: dict[str, Fact] = {"push_app": str(app), "reason": app.trouble}
        yield _Standing(f"{_REFUSED}:{app.pk}", _REFUSED, Severity.CRITICAL, facts)


def _channel() -> Iterator[_Standing]:
    """The certificate of the key that signs our calls to the relay."""
    row = keys.current()
    file: Path | None = settings.ENS.cns_key_file
    try:
        if row is not None:
            pem = row.certificate.encode()
        elif file is not None:
            pem = file.read_bytes()
        else:
            return
        certificate = x509.load_pem_x509_certificate(pem)
    except (OSError, ValueError):
        return  # whoever signs with it says so
    yield from _thresholds(_CHANNEL, _CHANNEL, certificate.not_valid_after_utc, timezone.now(), {})


def _thresholds(
    key: str, code: str, expires_at: datetime, now: datetime, facts: dict[str, Fact]
) -> Iterator[_Standing]:
    """Only the least one is raised, lest a late look tell of all at once."""
    least = thresholds.reached(expires_at, now)
    if least is None:
        return
    facts = {**facts, "expires_at": f"{expires_at:%Y-%m-%d}", "days": least}
    for days in thresholds.THRESHOLDS:
        if days >= least:
            urgent = days <= thresholds.URGENT_DAYS
            severity = Severity.CRITICAL if urgent else Severity.WARNING
            yield _Standing(f"{key}:{days}", code, severity, facts, fresh=days == least)
