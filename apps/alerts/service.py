"""Raising and clearing, from any room and any process."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.alerts.models import Alert, Message, Severity
from apps.vault.redact import Fact, plain_fact

log = logging.getLogger(__name__)


def raise_alert(
    key: str, severity: Severity, code: str, facts: Mapping[str, Fact] | None = None
) -> bool:
    """Raise an alert unless it is raised already; True for the one caller that raised it.

    `key` (up to 100 characters) holds no personal data, `facts` only codes, numbers and ids: what
    is none of these is kept as `?`.
    """
    kept = json.dumps({name: plain_fact(value) for name, value in (facts or {}).items()})
    values = {"severity": severity, "code": code, "facts": kept}
    with transaction.atomic():
        now = timezone.now()
        alert = Alert.objects.filter(key=key)
        if not alert.filter(raised=False).update(raised=True, changed_at=now, **values):
            if alert.exists():
                return False
            try:
                with transaction.atomic():
                    Alert.objects.create(key=key, raised=True, changed_at=now, **values)
            except IntegrityError:
                return False  # another process raised it at this moment
        Message.objects.create(key=key, raised=True, at=now, due_at=now, **values)
    level = logging.ERROR if severity == Severity.CRITICAL else logging.WARNING
    log.log(level, "alert raised: %s %s", key, kept)
    return True


def clear_alert(key: str) -> bool:
    """Clear an alert if it is raised; True for the one caller that cleared it."""
    with transaction.atomic():
        now = timezone.now()
        if not Alert.objects.filter(key=key, raised=True).update(raised=False, changed_at=now):
            return False
        alert = Alert.objects.get(key=key)
        Message.objects.create(
            key=key,
            severity=alert.severity,
            code=alert.code,
            facts=alert.facts,
            raised=False,
            at=now,
            due_at=now,
        )
    log.warning("alert cleared: %s", key)
    return True
