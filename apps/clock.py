"""The clock of a subscription's life: states, signs of life, check-ins, wake-ups.

Tests and the lab make it run faster (`ENS_LAB_CLOCK_SCALE`), so that a day passes in minutes. What
others measure too (signatures, key lifetimes, deadlines of calls) goes by the real clock.
"""

from __future__ import annotations

import time as real
from datetime import UTC, datetime

from django.conf import settings


def time() -> float:
    """Seconds since 1970."""
    scale = settings.ENS.lab_clock_scale
    if scale == 1.0:
        return real.time()
    origin = settings.ENS.lab_clock_origin
    return origin + (real.time() - origin) * scale


def now() -> datetime:
    """The same as an aware datetime in UTC."""
    return datetime.fromtimestamp(time(), UTC)
