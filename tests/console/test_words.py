"""Every code that the documentation names has words in the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apps.console import words
from apps.devices.models import Device, DeviceState
from apps.exchange import errors
from apps.history.stories import Entry
from apps.subscriptions.models import Subscription, SubscriptionState

DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def codes(page: str, head: str) -> list[str]:
    """The first column of the table with this head."""
    table = (DOCS / page).read_text("utf-8").split(head)[1].split("\n\n")[0]
    cells = re.findall(r"^ *\| ((?:`[a-z_]+`(?:, )?)+) \|", table, re.MULTILINE)
    return [code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)]


def test_every_documented_reason_and_alert_has_words_and_advice() -> None:
    refusals = codes("device-api.md", "| `code` of a refused join | meaning |")
    alerts = codes("operations.md", "| code | severity | raised when | what to do |")
    assert len(refusals) > 10 and len(alerts) > 8
    assert not [code for code in refusals if not words.reason(code).advice]
    assert not [code for code in alerts if not words.ALERTS[code].advice]


def test_whatever_an_exchange_refuses_is_told_to_phones_and_administrators() -> None:
    told = codes("device-api.md", "| `code` of a refused join | meaning |")
    told += codes("operations.md", "| reason | what Exchange said | what ENS does | what to do |")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = {kind.default_code for kind in kinds if issubclass(kind, errors.ExchangeError)}
    # The base class is never raised; an item that is gone is nobody's trouble.
    found -= {"exchange_error", "item_not_found"}
    assert len(found) > 12
    assert found - set(told) == set()
    assert not [code for code in found if not words.reason(code).advice]


def test_every_state_has_words_and_a_look() -> None:
    for state in DeviceState:
        assert words.of_device(Device(state=state)).meaning
        assert state.label in words.DEVICE_LOOKS
    for other in SubscriptionState:
        assert words.of_subscription(Subscription(state=other)).meaning
        assert other.label in words.SUBSCRIPTION_LOOKS


@pytest.mark.parametrize(
    ("kind", "facts", "text", "look"),
    [
        ("moved", {"to": "active", "reason": "proved"}, "Proved: new mail is announced", "ok"),
        ("announcement", {"result": "accepted", "ms": 12}, "Mail announced in 12 ms", "ok"),
        ("wake_up", {"result": "retry", "reason": "x"}, "refused for now", "failed"),
        ("subscription", {"to": "lost", "reason": "silent"}, "subscription: lost", "failed"),
        ("never_heard_of", {"a": "\u202e<b>"}, "Never heard of", ""),
    ],
)
def test_a_story_is_told(kind: str, facts: dict[str, str | int], text: str, look: str) -> None:
    line = words.line(Entry(NOW, kind, facts))
    assert text in line.text and line.look == look
    assert "\u202e" not in line.text + line.detail


def test_times_are_told_in_one_unit() -> None:
    assert words.span(timedelta(seconds=1)) == "1 second"
    assert words.span(timedelta(hours=30)) == "1 day"
    assert words.span(timedelta(minutes=90)) == "1 hour"
    assert words.since(None) == "never"
