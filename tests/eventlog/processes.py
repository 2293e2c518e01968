"""What the tests' own processes do; started by multiprocessing's spawn, as on Windows."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

KIND = "notification"
spawn = multiprocessing.get_context("spawn")


def _log(config: dict[str, Any]) -> Any:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")
    django.setup()
    from tests.eventlog import stores

    return stores.open_log(config)


def _appended(log: Any, entry: Any) -> bool:
    from apps.eventlog.interface import LogUnavailable

    try:
        log.append(entry)
    except LogUnavailable:
        return False
    return True


def append_many(config: dict[str, Any], name: str, partitions: int, count: int) -> None:
    """Append entries whose payload is their number within their partition of this process."""
    from apps.eventlog.interface import NewEntry

    log = _log(config)
    for number in range(count):
        for partition in range(partitions):
            entry = NewEntry(KIND, f"{name}-{partition}", str(number).encode())
            while not _appended(log, entry):
                time.sleep(0.1)  # as Exchange does when it is answered 503


def drain(config: dict[str, Any], worker: str, story: Path, lease_s: float, stop: Any) -> None:
    """Claim, note, wait a little, note, acknowledge, until told to stop and nothing is left.

    A line of the story is `<event> <monotonic ns> <id> <partition> <payload> <attempts>`.
    """
    log = _log(config)
    with story.open("a", buffering=1) as lines:

        def note(event: str, at: int, entries: Any) -> None:
            for entry in entries:
                payload = entry.payload.decode()
                lines.write(
                    f"{event} {at} {entry.id} {entry.partition} {payload} {entry.attempts}\n"
                )

        while not stop.is_set() or log.depth(KIND):
            entries = log.claim(KIND, worker, 7, lease_s)
            if not entries:
                time.sleep(0.01)
                continue
            note("claimed", time.monotonic_ns(), entries)
            time.sleep(0.01)
            note("done", time.monotonic_ns(), entries)
            log.acknowledge([entry.id for entry in entries])


def claim_and_hang(config: dict[str, Any], worker: str, lease_s: float, claimed: Any) -> None:
    """Claim all there is and never let go."""
    log = _log(config)
    claimed.put([entry.id for entry in log.claim(KIND, worker, 1_000, lease_s)])
    time.sleep(600)


def hold_the_turn(config: dict[str, Any], held: Any) -> None:
    """Stop in the middle of a claim, with its transaction open."""
    from django.db import transaction

    log = _log(config)
    with transaction.atomic(using="log"):
        log._take_turn()
        held.set()
        time.sleep(600)


def mark_many(config: dict[str, Any], failures: Any) -> None:
    """Mark the same keys as others do at the same time."""
    log = _log(config)
    try:
        for number in range(30):
            log.mark_seen([f"{number + i:064x}" for i in range(20)], 600)
            log.set_unwanted(f"p{number}")
    except Exception as error:
        failures.put(repr(error))


def sign_and_end(config: dict[str, Any], partition: str) -> None:
    """Give a sign of life and end like any program."""
    _log(config).sign_of_life(partition)


def lock_the_database(config: dict[str, Any], locked: Any, seconds: float) -> None:
    """Keep everyone else from writing for a while."""
    _log(config)
    from django.db import connections, transaction

    with transaction.atomic(using="log"), connections["log"].cursor() as cursor:
        if connections["log"].vendor == "postgresql":
            cursor.execute("LOCK TABLE eventlog_logentry IN ACCESS EXCLUSIVE MODE")
        locked.set()
        time.sleep(seconds)
