"""Each signed call is taken once, by whichever process it reaches, restarts included."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import IntegrityError

from apps.relay.models import Deployment, Nonce
from apps.relay.problems import Refused

_PURGE_EVERY_S = 60.0
_purge_due = 0.0


def spend(deployment: Deployment, nonce: str, expires_at: float, now: float) -> None:
    """Take a nonce for ever, or until `expires_at` (Unix time), when its signature is too old.

    Raises:
        Refused: `nonce_replayed`.
    """
    _purge(now)
    try:
        # One statement, so a transaction of its own; opening one around it costs as much again.
        Nonce.objects.create(
            deployment=deployment,
            nonce=nonce,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
        )
    except IntegrityError:
        raise Refused("nonce_replayed") from None


def _purge(now: float) -> None:
    """Once a minute in each process, forget what can't be presented again anyway."""
    global _purge_due
    if now >= _purge_due:
        _purge_due = now + _PURGE_EVERY_S
        Nonce.objects.filter(expires_at__lt=datetime.fromtimestamp(now, UTC)).delete()
