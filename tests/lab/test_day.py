"""The judgement on a simulated day."""

from __future__ import annotations

from typing import Any

from apps.lab.day.outcome import Dropped, Outcome

BEGAN = 1_000_000.0


def dropped(woken: float | None, repaired: float | None, *, rang: bool = True) -> Dropped:
    """Times in minutes after the drop."""
    woken_at = None if woken is None else BEGAN + woken * 60
    repaired_at = None if repaired is None else BEGAN + repaired * 60
    return Dropped("id", "user@example.com", BEGAN, woken_at, repaired_at, rang)


def outcome(*gone: Dropped, **more: Any) -> Outcome:
    return Outcome(
        **{
            "subscriptions": 2000,
            "dropped": gone,
            "status_frequency_minutes": 30,
            "clock_scale": 60.0,
            "needless": 0,
        }
        | more
    )


def test_found_and_repaired_in_time_keeps_the_promise() -> None:
    found = outcome(dropped(40, 41), dropped(60, 62), dropped(None, 20))
    assert (found.bound_minutes, found.late, found.kept) == (66.0, 0, True)
    assert found.as_json() == {
        "subscriptions": 2000,
        "dropped": 3,
        "repaired": 3,
        "repair_minutes": {"median": 41.0, "max": 62.0},
    }
    assert "kept" in found.table()


def test_late_unrepaired_or_silent_breaks_it() -> None:
    assert outcome(dropped(67, 68)).late == 1
    assert not outcome(dropped(67, 68)).kept
    assert not outcome(dropped(40, None)).kept
    assert not outcome(dropped(40, 41, rang=False)).kept
    assert "BROKEN" in outcome(dropped(None, None)).table()
