"""How many phones of one mail system may be woken just now, whichever worker asks.

What was granted within the last second is kept in the database and counted by all workers: of any
second of real time no more is granted than the setting says, be tasks late, doubled or crowded.
"""

from __future__ import annotations

import json
import time
from typing import Final

from django.db.models import F

from apps.subscriptions.models import WakeRate

WINDOW_S: Final = 1.0
# Grants so near to each other are one, as of the later moment: the row stays short.
_MERGED_S: Final = 0.05
# A grant from so far in the future was made by a clock that is wrong.
_NONSENSE_S: Final = 5.0
_TRIES: Final = 4

Grants = list[tuple[float, int]]


def take(mail_system_id: int, wanted: int, a_second: int) -> int:
    """Ask to wake up to `wanted` phones now; how many may be. What is taken is spent.

    When other workers are faster four times in a row, none.
    """
    WakeRate.objects.get_or_create(mail_system_id=mail_system_id)
    for _ in range(_TRIES):
        row = WakeRate.objects.get(mail_system_id=mail_system_id)
        now = time.time()
        recent = _recent(json.loads(row.grants), now)
        number = min(wanted, a_second - sum(n for _, n in recent))
        if number <= 0:
            return 0
        swapped = WakeRate.objects.filter(
            mail_system_id=mail_system_id, version=row.version
        ).update(version=F("version") + 1, grants=json.dumps(_with(recent, now, number)))
        if swapped:
            return number
    return 0


def _recent(grants: Grants, now: float) -> Grants:
    """Those that still count; from a server whose clock runs ahead a little, too."""
    return [(at, n) for at, n in grants if now - WINDOW_S < at < now + _NONSENSE_S]


def _with(grants: Grants, now: float, number: int) -> Grants:
    """Grants with one more."""
    at = round(now, 3)
    if grants and abs(at - grants[-1][0]) < _MERGED_S:
        return [*grants[:-1], (max(at, grants[-1][0]), grants[-1][1] + number)]
    return [*grants, (at, number)]
