"""Several web and worker processes share the log, and any of them may be killed at any moment."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.eventlog.interface import EventLog, LogUnavailable, NewEntry
from apps.eventlog.models import LogEntry
from tests.eventlog import processes, stores
from tests.eventlog.processes import KIND, spawn
from tests.postgres import Postgres

APPENDERS, PARTITIONS, ENTRIES = 2, 4, 40


@dataclass(frozen=True)
class Line:
    worker: str
    event: str
    at: int
    id: int
    partition: str
    number: int
    attempts: int


def read(stories: list[Path]) -> list[Line]:
    lines = []
    for story in stories:
        for text in story.read_text().splitlines():
            event, at, pk, partition, number, attempts = text.split(" ")
            lines.append(
                Line(story.stem, event, int(at), int(pk), partition, int(number), int(attempts))
            )
    return sorted(lines, key=lambda line: line.at)


@contextmanager
def started(target: Any, *arguments: Any) -> Iterator[Any]:
    process = spawn.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.fixture
def table_log(database: dict[str, Any]) -> Iterator[EventLog]:
    """The table log on the real clock."""
    log = stores.open_log(database)
    yield log
    log.close()


@pytest.fixture
def real(store: dict[str, Any]) -> Iterator[EventLog]:
    """The log on the real clock, as other processes have it."""
    log = stores.open_log(store)
    yield log
    log.close()


def test_killed_workers_lose_nothing_and_never_share_a_partition(
    real: EventLog, store: dict[str, Any], tmp_path: Path
) -> None:
    lease_s = 2.0
    stop = spawn.Event()
    appenders = [
        spawn.Process(
            target=processes.append_many, args=(store, f"a{n}", PARTITIONS, ENTRIES), daemon=True
        )
        for n in range(APPENDERS)
    ]
    stories: list[Path] = []
    workers: list[Any] = []

    def hire() -> None:
        stories.append(tmp_path / f"w{len(stories)}.story")
        arguments = (store, stories[-1].stem, stories[-1], lease_s, stop)
        worker = spawn.Process(target=processes.drain, args=arguments, daemon=True)
        worker.start()
        workers.append(worker)

    try:
        for process in appenders:
            process.start()
        hire()
        hire()
        for killed in range(2):
            while not (stories[killed].exists() and stories[killed].stat().st_size > 500):
                time.sleep(0.005)
            workers[killed].kill()
            hire()
        for process in appenders:
            process.join(60)
            assert process.exitcode == 0
        stop.set()
        for worker in workers[2:]:
            worker.join(60)
            assert worker.exitcode == 0
    finally:
        for process in [*appenders, *workers]:
            process.kill()
            process.join()

    lines = read(stories)
    assert real.depth(KIND) == 0
    done = [line for line in lines if line.event == "done"]
    assert {(x.partition, x.number) for x in done} == {
        (f"a{a}-{p}", n)
        for a in range(APPENDERS)
        for p in range(PARTITIONS)
        for n in range(ENTRIES)
    }
    _assert_order(done)
    _assert_exclusive(lines, lease_s)
    assert len(done) < APPENDERS * PARTITIONS * ENTRIES * 1.1
    assert len({line.worker for line in done}) >= 3


def _assert_order(done: list[Line]) -> None:
    first: dict[str, list[int]] = defaultdict(list)
    for line in done:
        if line.number not in first[line.partition]:
            first[line.partition].append(line.number)
    for numbers in first.values():
        assert numbers == sorted(numbers)


def _assert_exclusive(lines: list[Line], lease_s: float) -> None:
    """No worker is given a partition that another has not done with, unless its lease expired."""
    open_since: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for line in lines:
        mine = open_since[line.partition, line.worker]
        if line.event == "done":
            del mine[line.id]
            continue
        for (partition, worker), held in open_since.items():
            if partition == line.partition and worker != line.worker:
                for since in held.values():
                    assert line.at - since > (lease_s - 0.2) * 1e9
        mine[line.id] = line.at


def test_a_killed_claimers_entries_come_back_when_its_lease_ends(
    real: EventLog, store: dict[str, Any]
) -> None:
    for partition in ("a", "b", "a"):
        real.append(NewEntry(KIND, partition, b"x"))
    claimed = spawn.Queue()
    began = time.monotonic()
    with started(processes.claim_and_hang, store, "w1", 4.0, claimed) as process:
        taken = claimed.get(timeout=30)
        began = time.monotonic()
        process.kill()
    assert len(taken) == 3
    assert real.claim(KIND, "w2", 10, 30) == []
    while not (again := real.claim(KIND, "w2", 10, 30)):
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert time.monotonic() - began > 3
    assert [(entry.id, entry.attempts) for entry in again] == [(pk, 2) for pk in taken]


def test_a_claimer_killed_in_its_transaction_blocks_nobody(
    table_log: EventLog, database: dict[str, Any]
) -> None:
    table_log.append(NewEntry(KIND, "a", b"x"))
    held = spawn.Event()
    with started(processes.hold_the_turn, database, held) as process:
        assert held.wait(30)
        process.kill()
    began = time.monotonic()
    assert len(table_log.claim(KIND, "w2", 10, 30)) == 1
    assert time.monotonic() - began < 5


def test_processes_may_mark_the_same_at_once(real: EventLog, store: dict[str, Any]) -> None:
    failures = spawn.Queue()
    markers = [
        spawn.Process(target=processes.mark_many, args=(store, failures), daemon=True)
        for _ in range(3)
    ]
    for marker in markers:
        marker.start()
    for marker in markers:
        marker.join(60)
        assert marker.exitcode == 0
    assert failures.empty()
    keys = {f"{number:064x}" for number in range(49)}
    assert real.seen([*keys, "f" * 64]) == keys
    assert not any(real.append(NewEntry(KIND, f"p{number}", b"x")) for number in range(30))


def test_a_process_that_ends_writes_its_signs_of_life(
    real: EventLog, store: dict[str, Any]
) -> None:
    # A program of its own: multiprocessing's children end without their atexit functions.
    code = f"from tests.eventlog import processes; processes.sign_and_end({store!r}, 'a')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert set(real.last_signs(["a", "b"])) == {"a"}


def test_signs_of_life_are_written_within_seconds(real: EventLog) -> None:
    real.sign_of_life("a")
    began = time.monotonic()
    while not real.last_signs(["a"]):
        assert time.monotonic() - began < 8
        time.sleep(0.1)


def test_a_locked_database_is_unavailable_within_its_patience(
    table_log: EventLog, database: dict[str, Any]
) -> None:
    sqlite = "sqlite3" in database["ENGINE"]
    with connections["log"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout=500" if sqlite else "SET statement_timeout=500")
    locked = spawn.Event()
    with started(processes.lock_the_database, database, locked, 600.0):
        assert locked.wait(30)
        began = time.monotonic()
        with pytest.raises(LogUnavailable):
            table_log.append(NewEntry(KIND, "a", b"x"))
        assert time.monotonic() - began < 5
    assert table_log.append(NewEntry(KIND, "a", b"x")) is True
    assert LogEntry.objects.using("log").count() == 1


def test_a_database_that_restarts_is_unavailable_and_then_back(
    table_log: EventLog, database: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if "sqlite3" in database["ENGINE"]:
        database_file = Path(database["NAME"])
        connections["log"].close()
        away = database_file.rename(database_file.with_suffix(".away"))
        database_file.mkdir()
        restore = lambda: (database_file.rmdir(), away.rename(database_file))  # noqa: E731
    else:
        server: Postgres = request.getfixturevalue("postgres")
        table_log.append(NewEntry(KIND, "before", b"x"))
        server.stop()
        restore = server.start  # type: ignore[assignment]
    try:
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(LogUnavailable):
                table_log.append(NewEntry(KIND, "a", b"x"))
        with pytest.raises(LogUnavailable):
            table_log.claim(KIND, "w", 10, 30)
        assert table_log.sign_of_life("a") is True
        assert time.monotonic() - began < 20
    finally:
        restore()
    assert table_log.append(NewEntry(KIND, "a", b"x")) is True
    assert "a" in [entry.partition for entry in table_log.claim(KIND, "w", 10, 30)]
