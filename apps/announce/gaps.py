"""Notices what was missed between two notifications of a subscription."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from apps.subscriptions.entries import CLOCKS_DIFFER, MailWork
from apps.subscriptions.models import Subscription


def missed_since(
    subscription: Subscription, works: Sequence[MailWork], heartbeat_mark: str
) -> datetime | None:
    """Since when something may have been missed; None when the watermarks join up.

    A notification's PreviousWatermark is the last watermark that Exchange told us before, be it
    in a notification that was worked on or in a heartbeat. A false alarm costs one FindItem.
    """
    expected = {mark for mark in (subscription.watermark, heartbeat_mark) if mark}
    gap = False
    for work in works:
        gap = gap or bool(work.previous and expected and work.previous not in expected)
        if work.last:
            expected = {work.last}
    if not gap:
        return None
    return (subscription.watermark_at or subscription.created_at) - CLOCKS_DIFFER


def last_watermark(works: Iterable[MailWork]) -> str:
    """The newest watermark in a batch, oldest first; empty where none has one."""
    return next((work.last for work in reversed(list(works)) if work.last), "")
