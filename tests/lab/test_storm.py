"""The judgement on a storm, and its picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from apps.lab.storm.chart import svg
from apps.lab.storm.outcome import Outcome
from apps.lab.storm.run import Size

BEGAN = 1_000_000.0


def outcome(**more: Any) -> Outcome:
    """A hundred repaired at an even rate, 20 a second, nobody disturbed."""
    return Outcome(
        **{
            "subscriptions": 100,
            "restarted_at": BEGAN,
            "ended_at": BEGAN + 60,
            "repaired_at": [BEGAN + 55 + number / 20 for number in range(100)],
            "woken_at": [BEGAN + 50 + number / 20 for number in range(100)],
            "calls": {int(BEGAN) + second: 60 for second in range(55, 60)},
            "others_before": [0.1] * 20,
            "others_during": [0.2] * 20,
            "wake_ups_a_second": 20,
        }
        | more
    )


def test_an_even_repair_keeps_the_promise() -> None:
    found = outcome()
    assert (found.limit_kept, found.undisturbed, found.kept) == (True, True, True)
    told = found.as_json()
    assert told["repaired"] == 100
    assert told["repair_minutes"] == {"median": 0.96, "max": 1.0}
    assert told["calls_per_s"] == {"max": 60, "p95": 60}
    assert told["wakeups_per_s"] == {"max": 20}
    assert told["others_p95_ms"] == {"before": 100.0, "during": 200.0}
    assert "kept" in found.table()


@pytest.mark.parametrize(
    "broken",
    [
        {"repaired_at": [BEGAN + 55] * 99},
        {"woken_at": [BEGAN + 50 + number / 50 for number in range(200)]},
        {"others_during": [0.1] * 10 + [0.26] * 10},
        {"others_during": [0.1] * 19 + [None]},
        {"others_during": []},
    ],
)
def test_unrepaired_too_fast_or_disturbing_breaks_it(broken: dict[str, Any]) -> None:
    assert not outcome(**broken).kept
    assert "BROKEN" in outcome(**broken).table()


def test_a_seconds_share_may_come_at_once() -> None:
    assert outcome(woken_at=[BEGAN + second for second in range(5) for _ in range(20)]).limit_kept


def test_the_picture_is_one() -> None:
    picture = ElementTree.fromstring(svg(outcome()))
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [61, 61, 61]


def test_check_ins_are_as_frequent_as_those_of_10000() -> None:
    assert [Size(count).clock_scale for count in (300, 2000, 10_000, 20_000)] == [10, 5, 1, 1]
