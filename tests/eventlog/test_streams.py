"""What only the Redis log does: round trips, restarts, fail-overs, and what it leaves behind."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import SSLConnection

from apps.eventlog import streams
from apps.eventlog.connection import LogUrlInvalid, connect
from apps.eventlog.interface import Entry, EventLog, LogUnavailable, NewEntry
from apps.eventlog.streams import RedisLog
from tests.eventlog import processes, stores
from tests.eventlog.conftest import Clock
from tests.eventlog.processes import KIND, spawn
from tests.redis import RedisServer, Sentinels, free_port, wait_until


@pytest.fixture
def log(redis_server: RedisServer) -> Iterator[RedisLog]:
    made = RedisLog(redis_server.url, namespace=secrets.token_hex(6))
    yield made
    made.close()


@pytest.fixture
def own_server(tmp_path: Path, redis_server: RedisServer) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@contextmanager
def counted(server: RedisServer, command: str) -> Iterator[Callable[[], int]]:
    """How many of these commands the server was sent since."""
    with server.client() as client:

        def total() -> int:
            calls: dict[str, Any] = client.info("commandstats")
            return int(calls.get(f"cmdstat_{command}", {"calls": 0})["calls"])

        before = total()
        yield lambda: total() - before


def append(log: EventLog, *partitions: str) -> None:
    for partition in partitions:
        log.append(NewEntry(KIND, partition, b"payload"))


def names(entries: list[Entry]) -> list[str]:
    return [entry.partition for entry in entries]


def acknowledge(log: RedisLog, entries: list[Entry]) -> None:
    log.acknowledge([entry.id for entry in entries])


def keys(server: RedisServer, log: RedisLog) -> set[str]:
    with server.client() as client:
        return {key.decode().removeprefix(log._prefix) for key in client.keys(f"{log._prefix}*")}


def test_each_step_is_one_round_trip(log: RedisLog, redis_server: RedisServer) -> None:
    append(log, "warm")
    acknowledge(log, log.claim(KIND, "w", 10, 30))
    log.sign_of_life("warm")
    log.flush()
    with counted(redis_server, "evalsha") as calls:
        append(log, "a", "b")
        assert calls() == 2
        entries = log.claim(KIND, "w", 100, 30, ["x"])
        assert calls() == 3
        acknowledge(log, entries)
        assert calls() == 4
        for number in range(400):
            log.sign_of_life(f"p{number}", "mark")
        log.flush()
        assert calls() == 5


def test_nothing_is_left_of_what_is_done(log: RedisLog, redis_server: RedisServer) -> None:
    append(log, "a", "a", "b")
    first = log.claim(KIND, "w1", 1, 30)
    assert names(log.claim(KIND, "w2", 10, 30)) == ["b"]
    append(log, "b")
    assert log.claim(KIND, "w1", 10, 30, ["a", "b"]) == []
    log.delay([first[0].id], "w1", 0)
    rest = log.claim(KIND, "w2", 10, 30)
    assert names(rest) == ["a", "a", "b"]
    acknowledge(log, rest)
    acknowledge(log, log.claim(KIND, "w2", 10, 30))
    assert log.depth(KIND) == 1
    acknowledge(log, log.claim(KIND, "w2", 10, 0.001))
    assert keys(redis_server, log) >= {"kinds", "1:s"}
    with redis_server.client() as client:
        held = client.xpending(f"{log._prefix}1:s", "g")["pending"]
    # w2 still holds the b that it claimed at first.
    assert held == 1 == log.depth(KIND)


def test_a_drained_log_keeps_no_keys_of_partitions_or_workers(
    redis_server: RedisServer, clock: Clock
) -> None:
    log = RedisLog(redis_server.url, clock=clock, life_clock=clock, namespace=secrets.token_hex(6))
    for _ in range(3):
        append(log, "a", "b", "c")
        log.claim(KIND, "dies", 2, 30)
        log.claim(KIND, "other", 10, 20)
        clock.now += 10
    clock.now += 100
    while entries := log.claim(KIND, "last", 2, 30):
        acknowledge(log, entries)
    assert keys(redis_server, log) == {"kinds", "1:s", "1:last"}
    with redis_server.client() as client:
        assert client.xpending(f"{log._prefix}1:s", "g")["pending"] == 0
        assert client.xlen(f"{log._prefix}1:s") == 0
    log.close()


def test_a_claim_does_not_stop_at_much_that_is_put_aside(log: RedisLog) -> None:
    append(log, "busy")
    log.claim(KIND, "w1", 1, 30)
    with log._client.pipeline(transaction=False) as pipe:
        for number in range(4_500):
            pipe.execute_command(
                "EVALSHA", streams._APPEND._digest, 1, log._prefix, "", KIND, "busy", b"x", number
            )
        pipe.execute()
    append(log, "free")
    assert names(log.claim(KIND, "w2", 10, 30)) == ["free"]
    mine = log.claim(KIND, "w1", 5_000, 30)
    assert len(mine) == 4_500 and mine == sorted(mine, key=lambda entry: entry.id)


def test_workers_that_are_gone_are_forgotten(
    log: RedisLog, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, "a", "b")
    acknowledge(log, log.claim(KIND, "idle", 1, 30))
    log.claim(KIND, "holds", 1, 30)
    log.purge()
    with redis_server.client() as client:
        stream = f"{log._prefix}1:s"
        assert len(client.xinfo_consumers(stream, "g")) == 2
        monkeypatch.setattr(streams, "_WORKER_GONE_MS", -1)
        log.purge()
        (left,) = client.xinfo_consumers(stream, "g")
    assert left["name"] == b"holds"


def test_what_went_astray_is_found_again(
    log: RedisLog, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered, but known to nobody: as after an operator's hand in the keys."""
    monkeypatch.setattr(streams, "_ASTRAY_MS", 0)
    append(log, "a", "b", "b", "c")
    (astray, held) = log.claim(KIND, "w1", 2, 30)
    assert names(log.claim(KIND, "w2", 1, 30)) == ["c"], "the second b is parked"
    with redis_server.client() as client:
        client.delete(f"{log._prefix}1:due", f"{log._prefix}1:held:a")
        client.zadd(f"{log._prefix}1:due", {streams._from_number(held.id)[1]: 4e12})
    log.purge()
    again = log.claim(KIND, "w3", 10, 30)
    assert [(entry.id, entry.attempts) for entry in again[:1]] == [(astray.id, 2)]
    assert names(again) == ["a", "c"]
    assert names(log.claim(KIND, "w1", 10, 30)) == ["b"]


def test_the_silent_among_many_are_one_range(log: RedisLog, redis_server: RedisServer) -> None:
    """100,000 signs; what is read is the page alone."""
    with redis_server.client() as client:
        for start in range(0, 100_000, 10_000):
            signs = {f"healthy {n}": 2e9 for n in range(start, start + 10_000)}
            client.zadd(f"{log._prefix}signs", signs)
    log.sign_of_life("silent")
    log.flush()
    before = datetime.fromtimestamp(1.9e9, UTC)
    with counted(redis_server, "zrange") as calls:
        assert log.silent(before, 500) == ["silent"]
        assert calls() == 1
    with redis_server.client() as client:
        client.delete(f"{log._prefix}signs")


# --- Redis away, slow, full, no longer the primary -----------------------------------------------


def test_a_killed_redis_loses_nothing_and_is_met_again(own_server: RedisServer) -> None:
    log = RedisLog(own_server.url)
    append(log, "a", "b", "c")
    (held, *_) = log.claim(KIND, "w1", 1, 30)
    own_server.kill()
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        append(log, "d")
    with pytest.raises(LogUnavailable):
        log.claim(KIND, "w1", 10, 30)
    assert log.sign_of_life("a", "mark") is True
    log.flush()
    assert time.monotonic() - began < 3
    own_server.start()
    append(log, "d")
    assert names(log.claim(KIND, "w2", 10, 30)) == ["b", "c", "d"]
    assert log.renew([held.id], "w1", 30) == 1, "its lease outlived the server"
    log.flush()
    assert log.last_marks(["a"]) == {"a": "mark"}, "a sign that could not be written waits"
    log.close()


def test_a_redis_that_hangs_is_unavailable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.eventlog.connection._ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        log = RedisLog(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(LogUnavailable) as refused:
            log.append(NewEntry(KIND, "secret-partition", b"secret-payload"))
    assert time.monotonic() - began < 2
    assert "secret" not in str(refused.value) and refused.value.__suppress_context__
    log.close()


def test_no_payload_is_in_the_error_of_a_server_that_refuses(own_server: RedisServer) -> None:
    log = RedisLog(own_server.url)
    append(log, "a")
    with own_server.client() as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(LogUnavailable) as refused:
            log.append(NewEntry(KIND, "p", b"secret"))
        assert "OutOfMemory" in str(refused.value) and "secret" not in str(refused.value)
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", str(free_port()))
        with pytest.raises(LogUnavailable, match="ReadOnly"):
            append(log, "b")
        client.replicaof("no", "one")
    append(log, "b")
    assert log.depth(KIND) == 2
    log.close()


def test_an_append_waits_for_replicas(own_server: RedisServer) -> None:
    log = RedisLog(own_server.url, wait_replicas=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_WAIT_MS", 50)
        with pytest.raises(LogUnavailable, match="too few replicas"):
            append(log, "a")
    log.close()


@pytest.mark.parametrize(
    ("options", "wait", "warns"),
    [
        ({}, 0, False),
        ({"appendfsync": "everysec"}, 0, True),
        ({"appendfsync": "everysec"}, 1, False),
        ({"appendonly": "no"}, 0, True),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, 1, True),
    ],
)
def test_a_redis_that_may_lose_entries_is_warned_of_once(
    own_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    wait: int,
    warns: bool,
) -> None:
    with own_server.client() as client:
        for name, value in options.items():
            client.config_set(name, value)
    log = RedisLog(own_server.url, wait_replicas=wait)
    with caplog.at_level(logging.WARNING, "apps.eventlog"):
        log.depth(KIND)
        log.depth(KIND)
    assert len(caplog.records) == int(warns)
    log.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://host/0",
        "redis://host:port/0",
        "redis+sentinel://host:26379",
        "redis+sentinel:///ens",
        "redis+sentinel://:1,:2/ens",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(LogUrlInvalid) as refused:
        connect(url.replace("://", "://user:hunter2@", 1))
    assert "hunter2" not in str(refused.value) and "host" not in str(refused.value)


def test_tls_is_used_with_and_without_sentinels() -> None:
    for url in (
        "rediss://host/0",
        "rediss+sentinel://u:p%40w@one,[::1]:7/ens/3?sentinel_password=x",
    ):
        client = connect(url)
        assert issubclass(client.connection_pool.connection_class, SSLConnection)
    pool: Any = client.connection_pool
    assert pool.connection_kwargs["password"] == "p@w" and pool.connection_kwargs["db"] == 3
    assert [
        s.connection_pool.connection_kwargs["port"] for s in pool.sentinel_manager.sentinels
    ] == [
        26379,
        7,
    ]
    for sentinel in pool.sentinel_manager.sentinels:
        assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
        assert sentinel.connection_pool.connection_kwargs["password"] == "x"


# --- a fail-over in the middle of appends and claims ---------------------------------------------


class Traffic:
    """Threads that append and drain, noting what was answered OK and what came out."""

    def __init__(self, store: dict[str, Any]) -> None:
        self._store = store
        self.ok: set[str] = set()
        self.done: list[str] = []
        self.refused = 0
        self.stop_appending, self.stop_draining = threading.Event(), threading.Event()
        self.failures: list[BaseException] = []
        self.threads = [
            threading.Thread(target=self._guarded, args=(self._append, f"a{n}")) for n in range(2)
        ] + [threading.Thread(target=self._guarded, args=(self._drain, f"w{n}")) for n in range(2)]

    def _guarded(self, work: Callable[[RedisLog, str], None], name: str) -> None:
        log = stores.open_log(self._store)
        assert isinstance(log, RedisLog)
        try:
            work(log, name)
        except BaseException as error:
            self.failures.append(error)
        finally:
            log.close()

    def _append(self, log: RedisLog, name: str) -> None:
        number = 0
        while not self.stop_appending.is_set():
            number += 1
            payload = f"{name} {number}"
            try:
                log.append(NewEntry(KIND, f"p{number % 20}", payload.encode()))
                self.ok.add(payload)
            except LogUnavailable:
                self.refused += 1
                time.sleep(0.05)
            time.sleep(0.002)

    def _drain(self, log: RedisLog, name: str) -> None:
        while not self.stop_draining.is_set():
            try:
                entries = log.claim(KIND, name, 20, 3.0)
                time.sleep(0.01)
                # Before: an acknowledgement may be done although its answer is lost.
                self.done += [entry.payload.decode() for entry in entries]
                log.acknowledge([entry.id for entry in entries])
            except LogUnavailable:
                time.sleep(0.05)


@pytest.mark.slow
def test_a_sentinel_fail_over_loses_nothing_that_was_answered_ok(sentinels: Sentinels) -> None:
    traffic = Traffic(stores.redis_store(sentinels.url, "ens", wait_replicas=1))
    for thread in traffic.threads:
        thread.start()
    try:
        wait_until(lambda: len(traffic.ok) > 200)
        sentinels.primary.kill()
        before = len(traffic.ok)
        wait_until(lambda: _role(sentinels.replica) == "master")
        time.sleep(0.5)
        assert len(traffic.ok) - before < 20, "no append is OK while there is no replica"
        sentinels.primary.start("--replicaof", "127.0.0.1", str(sentinels.replica.port))
        wait_until(lambda: len(traffic.ok) > before + 200, patience_s=40)
        traffic.stop_appending.set()
        log = stores.open_log(traffic._store)
        wait_until(lambda: log.depth(KIND) == 0)
        log.close()
    finally:
        traffic.stop_appending.set()
        traffic.stop_draining.set()
        for thread in traffic.threads:
            thread.join(30)
    assert traffic.failures == []
    assert traffic.refused > 0
    assert traffic.ok <= set(traffic.done)
    assert len(traffic.done) - len(set(traffic.done)) < 200


def _role(server: RedisServer) -> str:
    with server.client() as client:
        return str(client.info("replication")["role"])


@pytest.mark.slow
def test_redis_killed_again_and_again_under_traffic_loses_nothing(own_server: RedisServer) -> None:
    store = stores.redis_store(own_server.url, "ens")
    traffic = Traffic(store)
    claimed = spawn.Queue()
    hanging = spawn.Process(
        target=processes.claim_and_hang, args=(store, "hangs", 3.0, claimed), daemon=True
    )
    append(log := stores.open_log(store), "p0", "p1")
    hanging.start()
    try:
        assert claimed.get(timeout=60)
        for thread in traffic.threads:
            thread.start()
        for _ in range(3):
            before = len(traffic.ok)
            wait_until(lambda before=before: len(traffic.ok) > before + 150)  # type: ignore[misc]
            own_server.kill()
            time.sleep(0.2)
            own_server.start()
        hanging.kill()
        traffic.stop_appending.set()
        wait_until(lambda: log.depth(KIND) == 0)
    finally:
        log.close()
        traffic.stop_appending.set()
        traffic.stop_draining.set()
        hanging.kill()
        for thread in traffic.threads:
            thread.join(30)
    assert traffic.failures == []
    assert traffic.ok <= set(traffic.done)
