"""When operators are told that a credential will expire.

Needs no tables: ENS's own watch uses it in processes that are no relay, too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

# Days before expiry at which operators are told, each once.
THRESHOLDS: Final = (30, 14, 7, 1)
URGENT_DAYS: Final = 7


def reached(expires_at: datetime, now: datetime) -> int | None:
    """The least of THRESHOLDS that has been reached; None while there is time enough."""
    left_s = (expires_at - now).total_seconds()
    return min((days for days in THRESHOLDS if left_s <= days * 86_400), default=None)
