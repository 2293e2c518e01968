"""The log behind its interface: order, leases, delays, marks, in every place that may keep it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.eventlog.interface import Entry, EventLog, NewEntry
from tests.eventlog import stores
from tests.eventlog.conftest import Clock

KIND = "notification"


def append(log: EventLog, *partitions: str, kind: str = KIND) -> None:
    for partition in partitions:
        log.append(NewEntry(kind, partition, f"{partition} payload".encode()))


def claim(log: EventLog, worker: str = "w1", limit: int = 100, **more: Any) -> list[Entry]:
    return log.claim(KIND, worker, limit, 30.0, **more)


def names(entries: list[Entry]) -> list[str]:
    return [entry.partition for entry in entries]


def ids(entries: list[Entry]) -> list[int]:
    return [entry.id for entry in entries]


def test_an_entry_is_claimed_once_and_gone_when_acknowledged(log: EventLog, clock: Clock) -> None:
    payload = bytes(range(256)) * 20
    assert log.append(NewEntry(KIND, "p", payload)) is True
    (entry,) = claim(log)
    assert entry == Entry(entry.id, KIND, "p", payload, clock.now, 1)
    assert b"\x01" not in repr(entry).encode() and "payload" not in repr(entry)
    assert log.depth(KIND) == 1
    assert claim(log) == []
    log.acknowledge([entry.id])
    assert log.depth(KIND) == 0
    log.acknowledge([entry.id, 12345])


def test_kinds_do_not_mix(log: EventLog) -> None:
    append(log, "p")
    append(log, "p", kind="join")
    assert len(claim(log)) == 1
    (entry,) = log.claim("join", "w2", 10, 30)
    assert entry.kind == "join"
    assert (log.depth(KIND), log.depth("join"), log.depth("other")) == (1, 1, 0)


def test_the_oldest_come_first_up_to_the_limit(log: EventLog, clock: Clock) -> None:
    for partition in ("a", "b", "c", "a", "d"):
        append(log, partition)
        clock.now += 1
    assert names(claim(log, limit=2)) == ["a", "b"]
    assert names(claim(log, limit=2)) == ["c", "a"]
    assert names(claim(log, limit=2)) == ["d"]


def test_a_partition_belongs_to_one_worker_at_a_time(log: EventLog) -> None:
    append(log, "a", "a", "b")
    first = claim(log, "w1", limit=1)
    append(log, "a")
    assert names(claim(log, "w2")) == ["b"]
    assert names(claim(log, "w1")) == ["a", "a"]
    log.acknowledge(ids(first))
    append(log, "a")
    assert claim(log, "w2") == []


def test_an_entry_handed_back_waits_while_its_worker_holds_the_next(log: EventLog) -> None:
    append(log, "a", "a")
    (first, _) = claim(log, "w1")
    log.delay([first.id], "w1", 0)
    assert claim(log, "w2") == []
    assert ids(claim(log, "w1")) == [first.id]


def test_skipped_partitions_stay(log: EventLog) -> None:
    append(log, "a", "b", "a", "c")
    assert names(claim(log, skip_partitions={"a", "x"})) == ["b", "c"]
    many = [f"skip {number}" for number in range(1_500)]
    append(log, *many[:50], "wanted")
    assert names(claim(log, skip_partitions=[*many, "a"])) == ["wanted"]


def test_an_expired_lease_is_claimed_by_others_and_counted(log: EventLog, clock: Clock) -> None:
    append(log, "a", "a")
    mine = claim(log, "w1", limit=1)
    clock.now += 29
    assert claim(log, "w2") == []
    clock.now += 2
    append(log, "a")
    taken = claim(log, "w2")
    assert ids(taken)[0] == mine[0].id
    assert ids(taken) == sorted(ids(taken))
    assert [entry.attempts for entry in taken] == [2, 1, 1]
    assert log.renew(ids(mine), "w1", 30) == 0
    log.delay(ids(mine), "w1", 0)
    assert claim(log, "w1") == []


def test_a_renewed_lease_holds(log: EventLog, clock: Clock) -> None:
    append(log, "a", "b")
    mine = claim(log)
    clock.now += 25
    assert log.renew(ids(mine), "w1", 30) == 2
    clock.now += 25
    assert claim(log, "w2") == []
    clock.now += 6
    assert names(claim(log, "w2")) == ["a", "b"]


def test_a_delayed_entry_holds_up_nothing(log: EventLog, clock: Clock) -> None:
    append(log, "a", "b", "a")
    (first, *rest) = claim(log)
    log.delay([first.id], "w1", 10)
    assert claim(log, "w2") == [], "w1 still holds the other one of its partition"
    log.acknowledge(ids(rest))
    append(log, "a", "b")
    assert names(claim(log, "w2")) == ["a", "b"]
    clock.now += 11
    assert claim(log, "w1") == [], "w2 holds one of its partition"
    # However late it became due again, it goes before what was appended after it.
    append(log, "a")
    (again,) = claim(log, "w2", limit=1)
    assert (again.id, again.attempts) == (first.id, 2)
    assert names(claim(log, "w2")) == ["a"]


def test_entries_that_became_due_in_another_order_keep_their_order(
    log: EventLog, clock: Clock
) -> None:
    append(log, "a", "a", "a")
    (first, second, third) = claim(log)
    log.delay([third.id], "w1", 20)
    log.delay([first.id], "w1", 10)
    log.delay([second.id], "w1", 0)
    clock.now += 15
    assert ids(claim(log, "w2")) == [first.id, second.id]
    clock.now += 6
    assert claim(log, "w3") == []
    assert ids(claim(log, "w2")) == [third.id]


def test_entries_handed_back_are_due_at_once(log: EventLog) -> None:
    append(log, "a", "a")
    log.delay(ids(claim(log, "w1")), "w1", 0)
    assert names(claim(log, "w2")) == ["a", "a"]


def test_an_unwanted_partition_is_told_so_on_every_server(
    log: EventLog, store: dict[str, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr("apps.eventlog.copies.time.monotonic", lambda: monotonic[0])
    other = stores.open_log(store, clock)
    assert other.append(NewEntry(KIND, "a", b"")) is True
    log.set_unwanted("a")
    log.set_unwanted("a")
    assert log.append(NewEntry(KIND, "a", b"")) is False
    assert log.sign_of_life("a") is False
    assert log.sign_of_life("b") is True
    monotonic[0] += 1.1
    assert other.append(NewEntry(KIND, "a", b"")) is False
    assert other.sign_of_life("a") is False
    assert log.depth(KIND) == 3
    other.close()


def test_every_server_knows_half_a_minute_later_who_has_dead_letters(
    log: EventLog, store: dict[str, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr("apps.eventlog.copies.time.monotonic", lambda: monotonic[0])
    other = stores.open_log(store, clock)
    append(log, "a", "b")
    assert not other.has_dead_letters("a")
    log.bury(claim(log, limit=1)[0].id, "gave_up")
    assert (log.has_dead_letters("a"), log.has_dead_letters("b")) == (True, False)
    assert not other.has_dead_letters("a")
    monotonic[0] += 30.1
    assert (other.has_dead_letters("a"), other.has_dead_letters("b")) == (True, False)
    other.revive(["a"])
    assert not other.has_dead_letters("a")
    monotonic[0] += 30.1
    assert not log.has_dead_letters("a")
    other.close()


def test_others_see_that_a_partition_is_held(log: EventLog) -> None:
    append(log, "a", "b")
    assert not log.is_held(KIND, "a")
    (held,) = claim(log, "w1", limit=1)
    assert held.partition == "a"
    assert (log.is_held(KIND, "a"), log.is_held(KIND, "b")) == (True, False)
    assert not log.is_held("another kind", "a")
    log.delay([held.id], "w1", 5)
    assert not log.is_held(KIND, "a")
    (held,) = claim(log, "w1", limit=1)
    log.acknowledge([held.id])
    assert not log.is_held(KIND, held.partition)


def test_the_newest_mark_is_kept_with_the_sign(
    log: EventLog, store: dict[str, Any], clock: Clock
) -> None:
    late = stores.open_log(store, clock)
    late.sign_of_life("a", "old")
    late.sign_of_life("c", "only")
    clock.now += 1
    log.sign_of_life("a", "new")
    log.sign_of_life("a")
    log.sign_of_life("b")
    log.flush()
    late.close()
    assert log.last_marks(["a", "b", "c", "unknown"]) == {"a": "new", "c": "only"}
    clock.now += 1
    log.sign_of_life("a")
    log.sign_of_life("b", "first" * 20)
    log.sign_of_life("c", "next")
    log.flush()
    assert log.last_marks(["a", "b", "c"]) == {"a": "new", "b": "first" * 20, "c": "next"}
    assert log.last_signs(["a"])["a"] == datetime.fromtimestamp(clock.now, UTC)


def test_what_fell_silent_is_listed_oldest_first_in_pages(log: EventLog, clock: Clock) -> None:
    began = datetime.fromtimestamp(clock.now, UTC)
    for number in range(12):
        log.sign_of_life(f"p{number:02}", "mark")
        clock.now += number % 2  # always two at the same time
    log.flush()
    assert log.silent(began, 100) == []
    everyone = log.silent(began + timedelta(hours=1), 100)
    assert everyone == [f"p{number:02}" for number in range(12)]
    before = log.last_signs(["p08"])["p08"]
    assert log.silent(before, 100) == everyone[:8]
    pages = [log.silent(before, 3)]
    while page := log.silent(before, 3, after=pages[-1][-1]):
        pages.append(page)
    assert pages == [everyone[:3], everyone[3:6], everyone[6:8]]
    log.sign_of_life("p02")
    log.flush()
    assert log.silent(before, 2, after="p02") == ["p00", "p01"], "it gave a sign: begin anew"
    log.forget(["p00", "unknown"])
    assert log.silent(before, 2, after="p00") == ["p01", "p03"]
    assert log.last_signs(["p00"]) == {} == log.last_marks(["p00"])


def test_a_forgotten_partition_is_not_written_later(log: EventLog) -> None:
    log.sign_of_life("a")
    log.sign_of_life("b")
    log.forget(["a"])
    log.flush()
    assert set(log.last_signs(["a", "b"])) == {"b"}


def test_dead_letters_tell_since_when_until_they_are_revived(log: EventLog, clock: Clock) -> None:
    append(log, "a")
    first = datetime.fromtimestamp(clock.now, UTC)
    clock.now += 60
    append(log, "a", "b", "c")
    (older, newer, other, _) = claim(log)
    for entry in (newer, older, other, older):
        log.bury(entry.id, "gave_up")
    log.bury(999, "gave_up")
    assert log.depth(KIND) == 1
    now = datetime.fromtimestamp(clock.now, UTC)
    assert log.dead_since(["a", "b", "c", "unknown"]) == {"a": first, "b": now}
    log.revive(["a", "unknown"])
    assert log.dead_since(["a", "b"]) == {"b": now}
    append(log, "b")
    assert names(claim(log)) == ["b"], "a buried entry holds its partition no longer"


def test_what_is_old_is_purged(log: EventLog, clock: Clock) -> None:
    append(log, "a", "b")
    log.set_unwanted("a")
    log.sign_of_life("a", "mark")
    log.flush()
    log.bury(claim(log, limit=1)[0].id, "gave_up")
    clock.now += 86_400
    log.purge()
    assert (len(log.dead_since(["a"])), len(log.last_marks(["a"]))) == (1, 1)
    assert log.append(NewEntry(KIND, "a", b"")) is False
    clock.now += 31 * 86_400
    log.purge()
    assert log.dead_since(["a"]) == {} == log.last_signs(["a"])
    assert log.last_marks(["a"]) == {} and log.silent(datetime.now(UTC), 10) == []
    log.set_unwanted("x")  # so that the process looks again at once
    assert log.append(NewEntry(KIND, "a", b"")) is True
    assert names(claim(log)) == ["b", "a", "a"], "entries are never purged"


def test_many_signs_and_marks_at_once(log: EventLog) -> None:
    partitions = [f"p{number:04}" for number in range(1_200)]
    for turn in ("first", "second"):
        for partition in partitions:
            log.sign_of_life(partition, f"{turn} {partition}")
        log.flush()
    assert set(log.last_signs([*partitions, "unknown"])) == set(partitions)
    # The clock stands: a sign of the same moment is no newer.
    assert log.last_marks(partitions) == {p: f"first {p}" for p in partitions}


def test_a_sign_written_late_does_not_hide_a_newer_one(
    log: EventLog, store: dict[str, Any], clock: Clock
) -> None:
    late = stores.open_log(store, clock)
    late.sign_of_life("a")
    clock.now += 600
    log.sign_of_life("a")
    log.flush()
    late.close()
    assert log.last_signs(["a"])["a"].timestamp() == clock.now


def test_marks_are_seen_until_they_expire(log: EventLog, clock: Clock) -> None:
    keys = [f"{number:064x}" for number in range(1_100)]
    log.mark_seen(keys, 60)
    log.mark_seen(keys[:3], 120)
    assert log.seen([*keys, "f" * 64]) == set(keys)
    clock.now += 61
    assert log.seen(keys) == set(keys[:3])
    log.mark_seen(keys[5:6], 60)
    assert log.seen(keys) == {*keys[:3], keys[5]}
    log.mark_seen([], 60)
    assert log.seen([]) == set()


@dataclass
class Waiting:
    """What the rules know of one entry: from when it is due, and to whom it is leased."""

    partition: str
    due_at: float
    holder: str = ""


def claimable(rules: dict[int, Waiting], worker: str, now: float) -> list[int]:
    """The numbers of the entries that the worker may have now, the oldest first."""
    held = {x.partition for x in rules.values() if x.holder not in ("", worker) and x.due_at > now}
    return [
        number for number, x in sorted(rules.items()) if x.due_at <= now and x.partition not in held
    ]


class Play:
    """Random workers on a log, with the rules kept beside it."""

    def __init__(self, log: EventLog, clock: Clock, seed: int) -> None:
        self.log, self.clock, self.chance = log, clock, random.Random(seed)
        self.rules: dict[int, Waiting] = {}
        self.entries: dict[int, Entry] = {}
        self.alive = ["w1", "w2", "w3"]
        self.appended = 0

    def act(self) -> None:
        self.clock.now += self.chance.random() * 3
        worker, now = self.chance.choice(self.alive), self.clock.now
        mine = [n for n, x in self.rules.items() if x.holder == worker and x.due_at > now]
        acts = [self.append, self.append, self.claim, self.claim, self.renew, self.die]
        if mine:
            acts += [self.acknowledge, self.delay]
        self.chance.choice(acts)(worker, mine)

    def append(self, worker: str, mine: list[int]) -> None:
        partition = f"p{self.chance.randrange(5)}"
        self.log.append(NewEntry(KIND, partition, str(self.appended).encode()))
        self.rules[self.appended] = Waiting(partition, self.clock.now)
        self.appended += 1

    def claim(self, worker: str, mine: list[int]) -> None:
        limit, skip = self.chance.randrange(1, 6), f"p{self.chance.randrange(8)}"
        due = claimable(self.rules, worker, self.clock.now)
        due = [n for n in due if self.rules[n].partition != skip]
        got = self.log.claim(KIND, worker, limit, 10.0, [skip])
        numbers = [int(entry.payload) for entry in got]
        assert len(numbers) == min(limit, len(due)) and set(numbers) <= set(due)
        assert numbers == sorted(numbers)
        for partition in {entry.partition for entry in got}:
            of_it = [n for n in numbers if self.rules[n].partition == partition]
            assert of_it == [n for n in due if self.rules[n].partition == partition][: len(of_it)]
        for number, entry in zip(numbers, got, strict=True):
            tried = self.entries[number].attempts if number in self.entries else 0
            assert entry.attempts == tried + 1
            self.entries[number] = entry
            self.rules[number] = Waiting(entry.partition, self.clock.now + 10.0, worker)

    def acknowledge(self, worker: str, mine: list[int]) -> None:
        number = self.chance.choice(mine)
        self.log.acknowledge([self.entries[number].id])
        del self.rules[number]

    def delay(self, worker: str, mine: list[int]) -> None:
        number, span = self.chance.choice(mine), round(self.chance.random() * 8)
        self.log.delay([self.entries[number].id], worker, span)
        self.rules[number] = Waiting(self.rules[number].partition, self.clock.now + span)

    def renew(self, worker: str, mine: list[int]) -> None:
        assert self.log.renew([self.entries[n].id for n in mine], worker, 10.0) == len(mine)
        for number in mine:
            self.rules[number].due_at = self.clock.now + 10.0

    def die(self, worker: str, mine: list[int]) -> None:
        # What it held stays leased; its successor has another name.
        self.alive.remove(worker)
        self.alive.append(f"{worker}'")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_the_rules_hold(seed: int, log: EventLog, clock: Clock) -> None:
    """Random appends, claims, delays, renewals and lost workers against the rules themselves."""
    play = Play(log, clock, seed)
    for _ in range(150):
        play.act()
    clock.now += 1000
    last = []
    while got := log.claim(KIND, "last", 50, 30):
        last += [int(entry.payload) for entry in got]
        log.acknowledge(ids(got))
    assert sorted(last) == sorted(play.rules)
    assert log.depth(KIND) == 0
