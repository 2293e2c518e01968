"""Whether the rounds that beat begins go round."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from apps import clock
from apps.subscriptions.models import Scan

_SCANNED_WITHIN: Final = timedelta(minutes=3)


def rounds() -> tuple[datetime | None, bool]:
    """When a worker last went its rounds (None: never), and whether that is recent enough."""
    last = Scan.objects.order_by("-last_at").values_list("last_at", flat=True).first()
    within = _SCANNED_WITHIN * settings.ENS.lab_clock_scale
    return last, last is not None and clock.now() - last < within
