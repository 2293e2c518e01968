"""Counters per minute, summed over all processes of the deployment."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from apps.history.buffer import add_to_minute, buffer

# Upper bounds in milliseconds; what takes longer is counted under `inf`.
BUCKETS_MS: Final = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000)
MINUTES_KEPT: Final = 2 * 24 * 60
_FOLDED_AT_ONCE: Final = 5_000
_LABEL: Final = re.compile(r"[A-Za-z0-9_]{1,50}")


def count(name: str, n: int = 1, label: str = "") -> None:
    """Add to a counter (names.py); returns at once and never fails.

    `label` tells outcomes apart (a code). What is no code, or comes from a stranger and is too
    long, is counted as `other`.
    """
    if label:
        name = f"{name}.{label if _LABEL.fullmatch(label) else 'other'}"
    buffer.add_count(name, n)


def observe(name: str, milliseconds: float) -> None:
    """Add a duration to a histogram; returns at once and never fails."""
    milliseconds = max(0.0, milliseconds)
    bucket = next((str(bound) for bound in BUCKETS_MS if milliseconds <= bound), "inf")
    buffer.add_count(f"{name}.{bucket}", 1)
    buffer.add_count(f"{name}.sum", round(milliseconds))


def minutes(name: str, since: datetime) -> list[tuple[datetime, int]]:
    """How often per minute since then, oldest first; minutes without any are left out.

    A name with labels is asked for with its label: `pushes.accepted`.
    """
    from apps.history.models import MinuteCount

    rows = MinuteCount.objects.filter(name=name, minute__gte=max(1, _minute(since)))
    return [
        (datetime.fromtimestamp(minute * 60, UTC), n)
        for minute, n in rows.order_by("minute").values_list("minute", "n")
    ]


def recent(name: str, span: timedelta) -> int:
    """How often within about this time (whole minutes), every label included."""
    from apps.history.models import MinuteCount

    since = max(1, _minute(timezone.now() - span))
    rows = MinuteCount.objects.filter(minute__gte=since)
    both = rows.filter(name=name) | rows.filter(name__startswith=f"{name}.")
    return both.aggregate(sum=Sum("n"))["sum"] or 0


def totals() -> dict[str, int]:
    """Every counter since the deployment began; a total never falls."""
    from apps.history.models import MinuteCount

    return dict(MinuteCount.objects.values_list("name").annotate(sum=Sum("n")).order_by())


def fold() -> None:
    """Add old minutes to their counter's sum and delete them. Housekeeping calls it."""
    from apps.history.models import MinuteCount

    before = _minute(timezone.now()) - MINUTES_KEPT
    with transaction.atomic():
        rows = list(
            MinuteCount.objects.select_for_update()
            .filter(minute__gt=0, minute__lt=before)
            .order_by("pk")
            .values_list("pk", "name", "n")[:_FOLDED_AT_ONCE]
        )
        sums: dict[str, int] = {}
        for _, name, n in rows:
            sums[name] = sums.get(name, 0) + n
        keys = [pk for pk, _, _ in rows]
        for start in range(0, len(keys), 500):
            MinuteCount.objects.filter(pk__in=keys[start : start + 500]).delete()
        for name in sorted(sums):
            add_to_minute(name, 0, sums[name])


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60
