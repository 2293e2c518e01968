"""The table log behind its interface: order, leases, delays, marks, on every database we have."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from apps.eventlog.interface import Entry, LogUnavailable, NewEntry
from apps.eventlog.models import DeadLetter, LogEntry, SeenMark, Sign, UnwantedPartition
from apps.eventlog.table import TableLog
from tests.eventlog.conftest import Clock

KIND = "notification"


def append(log: TableLog, *partitions: str, kind: str = KIND) -> None:
    for partition in partitions:
        log.append(NewEntry(kind, partition, f"{partition} payload".encode()))


def claim(log: TableLog, worker: str = "w1", limit: int = 100, **more: Any) -> list[Entry]:
    return log.claim(KIND, worker, limit, 30.0, **more)


def names(entries: list[Entry]) -> list[str]:
    return [entry.partition for entry in entries]


def ids(entries: list[Entry]) -> list[int]:
    return [entry.id for entry in entries]


def queries(log: TableLog) -> CaptureQueriesContext:
    return CaptureQueriesContext(connections["log"])


def test_an_entry_is_claimed_once_and_gone_when_acknowledged(log: TableLog, clock: Clock) -> None:
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


def test_kinds_do_not_mix(log: TableLog) -> None:
    append(log, "p")
    append(log, "p", kind="join")
    assert len(claim(log)) == 1
    (entry,) = log.claim("join", "w2", 10, 30)
    assert entry.kind == "join"
    assert (log.depth(KIND), log.depth("join"), log.depth("other")) == (1, 1, 0)


def test_the_oldest_come_first_up_to_the_limit(log: TableLog, clock: Clock) -> None:
    for partition in ("a", "b", "c", "a", "d"):
        append(log, partition)
        clock.now += 1
    assert names(claim(log, limit=2)) == ["a", "b"]
    assert names(claim(log, limit=2)) == ["c", "a"]
    assert names(claim(log, limit=2)) == ["d"]


def test_a_partition_belongs_to_one_worker_at_a_time(log: TableLog) -> None:
    append(log, "a", "a", "b")
    first = claim(log, "w1", limit=1)
    append(log, "a")
    assert names(claim(log, "w2")) == ["b"]
    assert names(claim(log, "w1")) == ["a", "a"]
    log.acknowledge(ids(first))
    append(log, "a")
    assert claim(log, "w2") == []


def test_an_entry_handed_back_waits_while_its_worker_holds_the_next(log: TableLog) -> None:
    append(log, "a", "a")
    (first, _) = claim(log, "w1")
    log.delay([first.id], "w1", 0)
    with queries(log) as asked:
        assert claim(log, "w2") == []
    assert len(asked) == 1
    assert ids(claim(log, "w1")) == [first.id]


def test_what_another_takes_between_look_and_turn_is_left_to_it(
    log: TableLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, "a", "a", "b")
    quicker = TableLog("log", clock, clock)

    def be_quicker() -> None:
        monkeypatch.undo()
        (first, _) = claim(quicker, "w1", skip_partitions=["b"])
        quicker.delay([first.id], "w1", 0)

    monkeypatch.setattr(log, "_take_turn", be_quicker)
    assert names(claim(log, "w2")) == ["b"]


def test_skipped_partitions_stay(log: TableLog) -> None:
    append(log, "a", "b", "a", "c")
    assert names(claim(log, skip_partitions={"a", "x"})) == ["b", "c"]
    many = [f"skip {number}" for number in range(1_500)]
    append(log, *many[:50], "wanted")
    assert names(claim(log, skip_partitions=[*many, "a"])) == ["wanted"]


def test_an_expired_lease_is_claimed_by_others_and_counted(log: TableLog, clock: Clock) -> None:
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


def test_a_renewed_lease_holds(log: TableLog, clock: Clock) -> None:
    append(log, "a", "b")
    mine = claim(log)
    clock.now += 25
    assert log.renew(ids(mine), "w1", 30) == 2
    clock.now += 25
    assert claim(log, "w2") == []
    clock.now += 6
    assert names(claim(log, "w2")) == ["a", "b"]


def test_a_delayed_entry_holds_up_nothing(log: TableLog, clock: Clock) -> None:
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
    log: TableLog, clock: Clock
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


def test_entries_handed_back_are_due_at_once(log: TableLog) -> None:
    append(log, "a", "a")
    log.delay(ids(claim(log, "w1")), "w1", 0)
    assert names(claim(log, "w2")) == ["a", "a"]


def test_a_server_whose_clock_runs_ahead_holds_nothing_back(log: TableLog, clock: Clock) -> None:
    ahead = Clock()
    ahead.now = clock.now + 20
    hasty = TableLog("log", ahead)
    append(hasty, "a")
    append(log, "a")
    assert names(claim(log)) == ["a", "a"]


def test_a_dead_letter_has_no_payload(log: TableLog, clock: Clock) -> None:
    append(log, "a", "b")
    (first, _) = claim(log)
    log.bury(first.id, "unseal_failed")
    log.bury(first.id, "unseal_failed")
    log.bury(999, "unseal_failed")
    (letter,) = DeadLetter.objects.using("log").values()
    assert letter == {
        "id": letter["id"],
        "kind": KIND,
        "partition": "a",
        "reason": "unseal_failed",
        "attempts": 1,
        "appended_at": clock.now,
        "buried_at": clock.now,
    }
    assert log.depth(KIND) == 1


def test_a_claim_on_an_empty_or_busy_log_is_one_indexed_query_and_no_write(
    log: TableLog, database: dict[str, Any]
) -> None:
    append(log, "a")
    claim(log, "w1")
    append(log, "a")
    with queries(log) as asked:
        assert claim(log, "w2") == []
    assert len(asked) == 1
    assert asked[0]["sql"].startswith("SELECT")
    with connections["log"].cursor() as cursor:
        if "sqlite3" in database["ENGINE"]:
            cursor.execute("EXPLAIN QUERY PLAN " + asked[0]["sql"])
            plan = "\n".join(row[3] for row in cursor.fetchall())
            assert "SCAN" not in plan
            assert "eventlog_entry_kind_due (kind=? AND due_at<?)" in plan
            assert "eventlog_entry_part_due (kind=? AND partition=? AND due_at>?)" in plan
        else:
            cursor.execute("SET enable_seqscan = off")  # a table of two rows is read at once
            cursor.execute("EXPLAIN " + asked[0]["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in plan


def test_a_claim_of_many_costs_few_queries(log: TableLog) -> None:
    append(log, "first", *(f"p{number}" for number in range(1_200)))
    claim(log, limit=1)
    with queries(log) as asked:
        entries = claim(log, limit=1_000)
    assert len(entries) == 1_000
    assert len(asked) <= 8
    log.acknowledge(ids(entries))
    assert log.depth(KIND) == 201


def test_an_append_is_one_statement(log: TableLog) -> None:
    append(log, "a")
    with queries(log) as asked:
        append(log, "a", "b", "c")
        log.sign_of_life("a")
    assert [query["sql"].split()[0] for query in asked] == ["INSERT"] * 3


def test_an_unwanted_partition_is_told_so_on_every_server(log: TableLog, clock: Clock) -> None:
    other = TableLog("log", clock, clock)
    assert other.append(NewEntry(KIND, "a", b"")) is True
    log.set_unwanted("a")
    log.set_unwanted("a")
    assert log.append(NewEntry(KIND, "a", b"")) is False
    assert log.sign_of_life("a") is False
    assert log.sign_of_life("b") is True
    other._unwanted.expire()  # a second passes
    assert other.append(NewEntry(KIND, "a", b"")) is False
    log.set_wanted("a")
    other._unwanted.expire()
    assert log.sign_of_life("a") is True and other.sign_of_life("a") is True
    assert log.depth(KIND) == 3
    other.close()


def test_unwanted_partitions_are_looked_up_at_most_once_a_second(
    log: TableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr("apps.eventlog.unwanted.time.monotonic", lambda: monotonic[0])
    log.sign_of_life("a")
    UnwantedPartition.objects.using("log").create(partition="a", marked_at=1.0)
    with queries(log) as asked:
        assert log.sign_of_life("a") is True
        monotonic[0] += 0.9
        assert log.sign_of_life("a") is True
    assert len(asked) == 0
    monotonic[0] += 0.2
    with queries(log) as asked:
        assert [log.sign_of_life("a") for _ in range(5)] == [False] * 5
    assert len(asked) == 2


def test_signs_of_life_are_written_in_batches(log: TableLog, clock: Clock) -> None:
    partitions = [f"p{number}" for number in range(1_200)]
    log.sign_of_life("p0")
    with queries(log) as asked:
        for partition in partitions:
            log.sign_of_life(partition)
    assert len(asked) == 0
    log.flush()
    first = log.last_signs([*partitions, "unknown"])
    assert set(first) == set(partitions)
    assert first["p7"] == datetime.fromtimestamp(clock.now, UTC)
    clock.now += 60
    for partition in partitions[:700]:
        log.sign_of_life(partition)
    with queries(log) as asked:
        log._signs.flush()
    assert sum(query["sql"].startswith("UPDATE") for query in asked) == 4
    later = log.last_signs(partitions)
    assert (later["p7"] - first["p7"]).total_seconds() == 60
    assert later["p1100"] == first["p1100"]


def test_a_sign_written_late_does_not_hide_a_newer_one(log: TableLog, clock: Clock) -> None:
    late = TableLog("log", clock, clock)
    late.sign_of_life("a")
    clock.now += 600
    log.sign_of_life("a")
    log.flush()
    late.close()
    assert log.last_signs(["a"])["a"].timestamp() == clock.now


def test_signs_that_cannot_be_written_wait(log: TableLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.sign_of_life("a")
    monkeypatch.setattr(Sign._meta, "db_table", "no_such_table")
    log.flush()
    monkeypatch.undo()
    log.flush()
    assert set(log.last_signs(["a"])) == {"a"}


def test_marks_are_seen_until_they_expire(log: TableLog, clock: Clock) -> None:
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


def test_marking_seen_at_once_in_many_threads(log: TableLog) -> None:
    failures: list[BaseException] = []

    def mark(start: int) -> None:
        try:
            for number in range(20):
                log.mark_seen([f"{start * 3 + number + i:064x}" for i in range(10)], 60)
        except BaseException as error:
            failures.append(error)
        finally:
            connections["log"].close()

    threads = [Thread(target=mark, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert SeenMark.objects.using("log").count() == 3 * 3 + 19 + 10


def test_purge_deletes_what_is_old(log: TableLog, clock: Clock) -> None:
    append(log, "a")
    log.mark_seen([f"{number:064x}" for number in range(1_001)], 60)
    log.mark_seen(["a" * 64], 100 * 86_400)
    log.set_unwanted("a")
    log.sign_of_life("a")
    log.flush()
    log.bury(claim(log)[0].id, "gave_up")
    append(log, "b")
    clock.now += 61
    log.purge()
    tables = (SeenMark, DeadLetter, UnwantedPartition, Sign, LogEntry)
    assert [table.objects.using("log").count() for table in tables] == [1, 1, 1, 1, 1]
    clock.now += 31 * 86_400
    log.purge()
    assert [table.objects.using("log").count() for table in tables] == [1, 0, 0, 0, 1]


def test_an_error_is_log_unavailable_without_content_and_the_next_call_works(
    log: TableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = NewEntry(KIND, "x" * 65 if connections["log"].vendor != "sqlite" else "x", b"secret")
    with connections["log"].cursor() as cursor:
        cursor.execute("ALTER TABLE eventlog_logentry RENAME TO away")
    with pytest.raises(LogUnavailable) as refused:
        log.append(marked)
    assert "secret" not in str(refused.value) and refused.value.__suppress_context__
    with pytest.raises(LogUnavailable):
        claim(log)
    with connections["log"].cursor() as cursor:
        cursor.execute("ALTER TABLE away RENAME TO eventlog_logentry")
    append(log, "a")
    assert names(claim(log)) == ["a"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_order_and_exclusiveness_hold(
    seed: int, log: TableLog, clock: Clock
) -> None:
    """Random appends, claims, delays, renewals and lost workers against the rules themselves."""
    chance = random.Random(seed)
    appended = 0
    done: list[tuple[str, int]] = []
    held: dict[str, dict[int, tuple[Entry, float]]] = {"w1": {}, "w2": {}, "w3": {}}

    alive = sorted(held)

    def live(worker: str) -> set[str]:
        return {e.partition for e, until in held[worker].values() if until > clock.now}

    def act() -> None:
        nonlocal appended
        clock.now += chance.random() * 3
        worker = chance.choice(alive)
        mine = {pk: x for pk, x in held[worker].items() if x[1] > clock.now}
        match chance.choice(["append", "append", "claim", "claim", "ack", "delay", "renew", "die"]):
            case "append":
                append(log, f"p{chance.randrange(5)}")
                appended += 1
            case "claim":
                others = set().union(*(live(w) for w in held if w != worker))
                waiting = list(LogEntry.objects.using("log").order_by("pk").values())
                got = log.claim(KIND, worker, chance.randrange(1, 6), 10.0)
                assert not others & set(names(got))
                for entry in got:
                    ahead = {
                        row["id"]
                        for row in waiting
                        if row["partition"] == entry.partition
                        and row["id"] < entry.id
                        and row["due_at"] <= clock.now
                    }
                    assert ahead <= set(ids(got)) | set(mine)
                    held[worker][entry.id] = (entry, clock.now + 10.0)
            case "ack" if mine:
                # In order within the partition, as the drain does it.
                entry = mine[min(mine)][0]
                log.acknowledge([entry.id])
                done.append((entry.partition, entry.id))
                del held[worker][entry.id]
            case "delay" if mine:
                pk = chance.choice(sorted(mine))
                log.delay([pk], worker, chance.random() * 8)
                del held[worker][pk]
            case "renew":
                log.renew(sorted(mine), worker, 10.0)
                held[worker] |= {pk: (x[0], clock.now + 10.0) for pk, x in mine.items()}
            case "die":
                # What it held stays leased; its successor has another name.
                alive.remove(worker)
                alive.append(f"w{len(held) + 1}")
                held[alive[-1]] = {}

    for _ in range(150):
        act()
    clock.now += 1000
    while got := log.claim(KIND, "last", 50, 30):
        done += [(entry.partition, entry.id) for entry in got]
        log.acknowledge(ids(got))
    assert len(done) == len(set(done)) == appended
    assert log.depth(KIND) == 0
