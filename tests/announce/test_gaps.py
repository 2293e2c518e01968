"""What was missed between two notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.announce.gaps import last_watermark, missed_since
from apps.subscriptions.entries import MailWork
from apps.subscriptions.models import Subscription

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def work(previous: str, last: str) -> MailWork:
    return MailWork("c", previous=previous, last=last)


@pytest.mark.parametrize(
    ("known", "heartbeat", "works", "gap"),
    [
        ("", "", [work("a", "b")], False),
        ("a", "", [work("a", "b")], False),
        ("a", "", [work("a", "b"), work("b", "c")], False),
        ("a", "", [work("x", "b")], True),
        ("a", "", [work("a", "b"), work("x", "c")], True),
        ("a", "h", [work("h", "b")], False),
        ("a", "h", [work("a", "b")], False),
        ("a", "h", [work("x", "b")], True),
        ("", "h", [work("x", "b")], True),
        ("a", "", [work("", "")], False),
    ],
)
def test_watermarks_that_do_not_join_up_are_a_gap(
    known: str, heartbeat: str, works: list[MailWork], gap: bool
) -> None:
    row = Subscription(watermark=known, watermark_at=NOON, created_at=NOON - timedelta(days=1))
    since = missed_since(row, works, heartbeat)
    assert since == (NOON - timedelta(minutes=2) if gap else None)


def test_the_last_watermark_is_the_newest_that_is_known() -> None:
    assert last_watermark([work("a", "b"), work("b", "c"), work("", "")]) == "c"
    assert last_watermark([work("", "")]) == ""
