"""The chaos run's parts: the plan of its faults and the judgement on what arrived."""

from __future__ import annotations

from typing import Any

import pytest

from apps.lab.announced import Mail, first_arrivals
from apps.lab.chaos.faults import Happened
from apps.lab.chaos.outcome import judge
from apps.lab.chaos.plan import KILLS, OTHERS, plan
from apps.lab.phone import Push

ANNA = "anna@example.com"
ONE, TWO = Mail(ANNA, "one", 100.0), Mail(ANNA, "two", 101.0)


def announcement(at: float, body: str, item: str = "") -> Push:
    alert = {"title": "Ben", "body": body} if body else {"title": "New mail"}
    ens = {"v": 1, "kind": "announcement", "item": item or body}
    return Push(1, at, item, {"aps": {"alert": alert}, "ens": ens})


@pytest.mark.parametrize("seconds", [20.0, 60.0, 300.0])
def test_a_plan_holds_every_fault_in_time_and_is_the_same_again(seconds: float) -> None:
    planned = plan(7, seconds)
    assert planned == plan(7, seconds) != plan(8, seconds)
    names = [fault.name for fault in planned]
    assert all(names.count(name) == 1 for name in OTHERS)
    assert {f"kill {name}" for name in KILLS} <= set(names)
    assert [fault.at for fault in planned] == sorted(fault.at for fault in planned)
    assert all(fault.at > 0 and fault.at + fault.seconds <= seconds + 1 for fault in planned)


def test_the_long_plan_kills_again_and_again_and_refuses_for_ten_seconds() -> None:
    planned = plan(7, 60)
    assert sum(fault.name.startswith("kill") for fault in planned) == 15
    (refusing,) = [fault for fault in planned if fault.name == "apns 503"]
    assert refusing.seconds >= 9.7


def outcome(pushes: list[list[Push]], *faults: Happened) -> Any:
    return judge(1, [ONE, TWO], {ANNA: pushes}, faults)


def test_every_mail_once_on_every_phone_keeps_the_promise() -> None:
    phones = [[announcement(at, "one"), announcement(at + 1, "two")] for at in (102.0, 103.0)]
    found = outcome(phones, Happened("kill web", 101.5, 101.5))
    assert found.kept
    assert found.as_json() == {
        "sent": 2,
        "announced": 2,
        "lost": 0,
        "duplicates": 0,
        "faults": 1,
        "recovery_s": {"median": 2.5, "max": 2.5},
    }
    assert "kill web" in found.table() and "kept" in found.table()


def test_a_mail_that_one_phone_missed_is_lost() -> None:
    phones = [[announcement(102, "one"), announcement(103, "two")], [announcement(102, "one")]]
    found = outcome(phones, Happened("kill web", 101.5, 101.5))
    assert (found.announced, found.lost, found.kept) == (1, 1, False)
    assert found.as_json()["recovery_s"] == {"median": None, "max": None}
    assert [mail.subject for mail in found.lost_mails] == ["two"]
    assert "never" in found.table() and "BROKEN" in found.table()


def test_a_repeated_announcement_counts_whatever_its_item() -> None:
    once = [announcement(102, "one"), announcement(103, "two")]
    repeated = outcome([[*once, announcement(104, "one")]], Happened("kill web", 103.5, 103.5))
    assert (repeated.duplicates, repeated.repeats) == (1, {"kill web": 1})
    assert outcome([[*once, announcement(104, "one", "another item")]]).duplicates == 1
    # Half a minute later, when the lease of a killed worker had run out.
    late = [[*once, announcement(140, "one")]]
    faults = [Happened(name, at, at) for name, at in (("kill worker", 102.2), ("kill web", 139.0))]
    assert outcome(late, *faults).repeats == {"kill worker": 1}
    assert not outcome([[*once, announcement(104, "one")]]).kept


def test_a_fault_that_could_not_be_carried_out_proves_nothing() -> None:
    once = [announcement(102, "one"), announcement(103, "two")]
    assert not outcome([once], Happened("redis fail-over", 101.0, 101.0, "TookTooLong")).kept


def test_new_mail_without_a_subject_stands_for_the_oldest_untold() -> None:
    pushes = [announcement(102, "", "item-1"), announcement(103, "two")]
    assert first_arrivals(pushes, [ONE, TWO]) == {"one": 102, "two": 103}


def test_an_item_told_twice_does_not_stand_for_another_mail() -> None:
    pushes = [announcement(102, "", "item-1"), announcement(103, "one", "item-1")]
    assert first_arrivals(pushes, [ONE, TWO]) == {"one": 102}
