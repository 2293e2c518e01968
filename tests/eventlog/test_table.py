"""What only the table log does: few statements, by indexes, on every database we have."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
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


@pytest.fixture
def log(table: TableLog) -> TableLog:
    return table


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


def test_unwanted_partitions_are_looked_up_at_most_once_a_second(
    log: TableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monotonic = [1000.0]
    monkeypatch.setattr("apps.eventlog.copies.time.monotonic", lambda: monotonic[0])
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


def test_signs_that_cannot_be_written_wait(log: TableLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.sign_of_life("a")
    monkeypatch.setattr(Sign._meta, "db_table", "no_such_table")
    log.flush()
    monkeypatch.undo()
    log.flush()
    assert set(log.last_signs(["a"])) == {"a"}


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


def test_the_silent_are_found_by_an_index(log: TableLog, database: dict[str, Any]) -> None:
    """However many are healthy, only the silent ones are read."""
    healthy = [Sign(pk=f"healthy {n}", seen_at=2e9, mark="") for n in range(20_000)]
    Sign.objects.using("log").bulk_create(healthy, batch_size=300)
    silent = [f"silent {n}" for n in range(3)]
    for partition in silent:
        log.sign_of_life(partition)
    log.flush()
    before = datetime.fromtimestamp(1.9e9, UTC)
    with queries(log) as asked:
        assert log.silent(before, 500) == silent
        assert log.silent(before, 500, after=silent[0]) == silent[1:]
    assert len(asked) == 3
    with connections["log"].cursor() as cursor:
        if "sqlite3" not in database["ENGINE"]:
            cursor.execute("ANALYZE eventlog_sign")
        for query in (asked[0], asked[2]):
            if "sqlite3" in database["ENGINE"]:
                cursor.execute("EXPLAIN QUERY PLAN " + query["sql"])
                plan = "\n".join(row[3] for row in cursor.fetchall())
                assert "SEARCH eventlog_sign USING COVERING INDEX eventlog_sign_seen" in plan
                assert "TEMP B-TREE" not in plan, "no sorting"
            else:
                cursor.execute("EXPLAIN " + query["sql"])
                plan = "\n".join(row[0] for row in cursor.fetchall())
                assert "using eventlog_sign_seen" in plan and "Seq Scan" not in plan


def test_a_purge_leaves_nothing_of_what_was_acknowledged_in_sqlites_journal(
    tmp_path: Path,
) -> None:
    """In a process of its own: its log has a database file that nobody else has open."""
    script = """
import django; django.setup()
from django.conf import settings
from django.core.management import call_command
call_command("migrate", verbosity=0)
from apps.eventlog.factory import get_log
from apps.eventlog.interface import NewEntry
log = get_log()
log.append(NewEntry("mail", "p", b"sealed-and-marked"))
log.acknowledge([entry.id for entry in log.claim("mail", "w", 10, 30)])
log.purge()
# The connection is still open: closing the last one would tidy up by itself.
files = list(settings.ENS.data_dir.glob("ens.sqlite3*"))
assert len(files) == 3, files
assert not [file.name for file in files if b"sealed-and-marked" in file.read_bytes()]
"""
    environment = {name: value for name, value in os.environ.items() if name != "ENS_DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment
        | {"ENS_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "ens_project.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
