"""Each signed call is taken once, by whichever process it reaches, restarts included."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import IntegrityError, connection

from apps.relay.models import Deployment, Nonce
from apps.relay.problems import Refused

_PURGE_EVERY_S = 60.0
_INSERT = "INSERT INTO relay_nonce (deployment_id, nonce, expires_at) VALUES (%s, %s, %s)"
_purge_due = 0.0


def spend(deployment: Deployment, nonce: str, expires_at: float, now: float) -> None:
    """Take a nonce for ever, or until `expires_at` (Unix time), when its signature is too old.

    Raises:
        Refused: `nonce_replayed`.
    """
    _purge(now)
    try:
        # One statement, so a transaction of its own; opening one around it costs as much again,
        # and the ORM's way to this statement several times as much.
        until = datetime.fromtimestamp(expires_at, UTC)
        with connection.cursor() as cursor:
            cursor.execute(
                _INSERT,
                (deployment.pk, nonce, connection.ops.adapt_datetimefield_value(until)),
            )
    except IntegrityError:
        raise Refused("nonce_replayed") from None


def _purge(now: float) -> None:
    """Once a minute in each process, forget what can't be presented again anyway."""
    global _purge_due
    if now >= _purge_due:
        _purge_due = now + _PURGE_EVERY_S
        Nonce.objects.filter(expires_at__lt=datetime.fromtimestamp(now, UTC)).delete()
