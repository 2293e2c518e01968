"""What operators must see to: credentials that will expire, and those that are refused.

Beside ENS, its watch raises alerts from this (`apps/operations/push_apps.py`). A relay that runs
alone says it in its log, once for each threshold, in `relay_push_app list` and at `/nws/ready`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from logging import ERROR, WARNING, getLogger
from typing import Final

from cryptography import x509
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from apps.relay.models import Deployment, PushApp
from apps.relay.thresholds import URGENT_DAYS, reached
from apps.vault.redact import where

logger = getLogger(__name__)

_LOOK_EVERY_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Expiring:
    """Something whose time is running out. `threshold`: the least of THRESHOLDS reached."""

    kind: str
    pk: int
    name: str
    expires_at: datetime
    threshold: int


def expiring_apps(now: datetime) -> Iterator[Expiring]:
    """The push apps whose certificates expire within the longest of the thresholds, or have."""
    for app in PushApp.objects.exclude(expires_at=None).order_by("pk"):
        assert app.expires_at is not None
        if (threshold := reached(app.expires_at, now)) is not None:
            yield Expiring("push_app", app.pk, str(app), app.expires_at, threshold)


def expiring_deployments(now: datetime) -> Iterator[Expiring]:
    """The deployments whose secure channel certificates do."""
    for each in Deployment.objects.filter(revoked_at=None).order_by("pk"):
        expires_at = x509.load_pem_x509_certificate(each.certificate.encode()).not_valid_after_utc
        if (threshold := reached(expires_at, now)) is not None:
            yield Expiring("deployment", each.pk, each.name, expires_at, threshold)


def needed() -> bool:
    """Whether something of all this wants a person."""
    now = timezone.now()
    refused = PushApp.objects.exclude(trouble="").exists()
    return refused or any(expiring_apps(now)) or any(expiring_deployments(now))


def tell_log() -> None:
    """Log each threshold of each push app once, however many processes look.

    Deployments renew their own certificates and are told by their ENS.
    """
    for each in expiring_apps(timezone.now()):
        untold = Q(expiry_told_days=None) | Q(expiry_told_days__gt=each.threshold)
        # Replaced meanwhile: it is about another certificate, and that is told in its own time.
        mine = PushApp.objects.filter(untold, pk=each.pk, expires_at=each.expires_at)
        if mine.update(expiry_told_days=each.threshold):
            level = ERROR if each.threshold <= URGENT_DAYS else WARNING
            logger.log(
                level,
                "the certificate of %s expires on %s: replace it with relay_push_app replace",
                each.name,
                f"{each.expires_at:%Y-%m-%d %H:%M} UTC",
            )


def start() -> None:
    """Look now and then, on a thread of this process: for a relay that runs alone."""
    threading.Thread(target=_run, name="relay-attention", daemon=True).start()


def _run() -> None:
    pause = threading.Event()
    while True:
        try:
            tell_log()
        except Exception as error:  # noqa: BLE001 - the database may be away; look again later
            logger.warning("expiry can't be judged: %s", where(error))
        finally:
            connection.close()
        pause.wait(_LOOK_EVERY_S)
