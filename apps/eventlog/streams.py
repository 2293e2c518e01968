"""The event log in Redis 7 Streams, shared by many processes.

Each kind is a stream with a consumer group; what a stream doesn't know (leases of any length,
delays, one worker to a partition) is kept beside it by small Lua scripts in `lua/`, and
`lua/common.lua` lists the keys. Every step is one script in one round trip: done as a whole, or
not at all, also on the replicas. Leases go by the clock of the Redis server, so the clocks of the
hosts don't matter.

Nothing is lost with `appendonly yes` and `appendfsync always`, or when appends wait for replicas.
Streams are never trimmed; `maxmemory-policy` must be `noeviction`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError

from apps.eventlog import durability
from apps.eventlog.connection import connect
from apps.eventlog.copies import DEAD_EVERY_S, UNWANTED_EVERY_S, PartitionsCopy
from apps.eventlog.interface import Entry, LogUnavailable, NewEntry
from apps.eventlog.kept import DEAD_LETTERS_KEPT_S, SIGNS_KEPT_S, UNWANTED_KEPT_S
from apps.eventlog.scripts import Script, Value
from apps.eventlog.signs import SIGNS_EVERY_S, SignBuffer, SignOfLife

_log = logging.getLogger(__name__)

_CHUNK: Final = 500
_WAIT_MS: Final = 2_000
_WORKER_GONE_MS: Final = 86_400_000
_ASTRAY_MS: Final = 600_000
_KIND_BITS: Final = 4
_SALT_BITS: Final = 20


class RedisLog:
    """The EventLog of `interface.py` in one Redis.

    `wait_replicas`: an append returns when so many replicas have it, too. `clock` replaces the
    server's own in tests.
    """

    def __init__(
        self,
        url: str,
        wait_replicas: int = 0,
        clock: Callable[[], float] | None = None,
        life_clock: Callable[[], float] = time.time,
        namespace: str = "ens",
    ) -> None:
        self._client: Redis = connect(url)
        self._wait_replicas = wait_replicas
        self._clock = clock
        self._life_clock = life_clock
        self._prefix = f"{{{namespace}:log}}:"
        self._checked = False
        self._unwanted = PartitionsCopy(
            self._unwanted_version, self._unwanted_partitions, UNWANTED_EVERY_S
        )
        self._dead = PartitionsCopy(self._dead_version, self._dead_partitions, DEAD_EVERY_S)
        self._signs = SignBuffer(self._write_signs, SIGNS_EVERY_S)

    # --- the webhook's side ----------------------------------------------------------------

    def append(self, entry: NewEntry) -> bool:
        """See `EventLog.append`. One round trip."""
        salt = secrets.randbits(_SALT_BITS)
        values = (self._now(), entry.kind, entry.partition, entry.payload, salt)
        with self._reached() as client:
            if not self._wait_replicas:
                return bool(_APPEND.run(client, self._prefix, *values))
            wanted, replicas = _APPEND.run_and_wait(
                client, self._wait_replicas, _WAIT_MS, self._prefix, *values
            )
        if replicas < self._wait_replicas:
            raise LogUnavailable("too few replicas")
        return bool(wanted)

    def sign_of_life(self, partition: str, mark: str = "") -> bool:
        """See `EventLog.sign_of_life`. No round trip."""
        self._signs.note(partition, self._life_clock(), mark)
        return partition not in self._unwanted

    def flush(self) -> None:
        """See `EventLog.flush`."""
        self._signs.flush()

    def close(self) -> None:
        """See `EventLog.close`."""
        self._signs.close()
        self._client.close()

    def _write_signs(self, signs: dict[str, SignOfLife]) -> None:
        for chunk in _chunks(signs):
            self._run(_SIGNS, *(x for p in chunk for x in (p, repr(signs[p].at), signs[p].mark)))

    # --- the worker's side -----------------------------------------------------------------

    def claim(
        self,
        kind: str,
        worker: str,
        limit: int,
        lease_s: float,
        skip_partitions: Collection[str] = (),
    ) -> list[Entry]:
        """See `EventLog.claim`. One round trip, more when a lot had to be put aside."""
        entries: list[Entry] = []
        more = True
        while more and len(entries) < limit:
            room = limit - len(entries)
            number, more, *found = self._run(
                _CLAIM, kind, worker, room, _ms(lease_s), *skip_partitions
            )
            for stream_id, partition, when, payload, attempts in found:
                entries.append(
                    Entry(
                        _to_number(stream_id, number),
                        kind,
                        partition.decode(),
                        payload,
                        int(when) / 1000,
                        attempts,
                    )
                )
        return sorted(entries, key=lambda entry: entry.id)

    def renew(self, ids: Collection[int], worker: str, lease_s: float) -> int:
        """See `EventLog.renew`."""
        return sum(
            self._run(_RENEW, kind, worker, _ms(lease_s), *stream_ids)
            for kind, stream_ids in _by_kind(ids)
        )

    def delay(self, ids: Collection[int], worker: str, seconds: float) -> None:
        """See `EventLog.delay`."""
        for kind, stream_ids in _by_kind(ids):
            self._run(_DELAY, kind, worker, _ms(seconds), *stream_ids)

    def is_held(self, kind: str, partition: str) -> bool:
        """See `EventLog.is_held`."""
        with self._reached() as client:
            number = client.hget(f"{self._prefix}kinds", kind)
            key = f"{self._prefix}{int(number)}:held:{partition}" if number else ""
            return bool(key) and bool(client.exists(key))

    def acknowledge(self, ids: Collection[int]) -> None:
        """See `EventLog.acknowledge`. One round trip for every 500 ids of a kind."""
        for kind, stream_ids in _by_kind(ids):
            self._run(_ACKNOWLEDGE, kind, *stream_ids)

    def bury(self, entry_id: int, reason: str) -> None:
        """See `EventLog.bury`."""
        number, stream_id = _from_number(entry_id)
        with self._reached() as client:
            kinds: Any = client.hgetall(f"{self._prefix}kinds")
        name = {int(number): name for name, number in kinds.items()}.get(number)
        if name is not None:
            self._run(_BURY, number, stream_id, reason, name, repr(self._life_clock()))
        self._dead.expire()

    def depth(self, kind: str) -> int:
        """See `EventLog.depth`."""
        with self._reached() as client:
            number = client.hget(f"{self._prefix}kinds", kind)
            return int(client.xlen(f"{self._prefix}{int(number)}:s")) if number else 0

    # --- partitions and marks --------------------------------------------------------------

    def set_unwanted(self, partition: str) -> None:
        """See `EventLog.set_unwanted`."""
        self._run(_UNWANT, partition, repr(self._life_clock()))
        self._unwanted.expire()

    def _unwanted_version(self) -> Any:
        with self._reached() as client:
            return client.get(f"{self._prefix}unwanted:version")

    def _unwanted_partitions(self) -> frozenset[str]:
        with self._reached() as client:
            found: Any = client.zrange(f"{self._prefix}unwanted", 0, -1)
        return frozenset(partition.decode() for partition in found)

    def mark_seen(self, keys: Iterable[str], ttl_s: float) -> None:
        """See `EventLog.mark_seen`."""
        until = _ms(self._real() + ttl_s)
        for chunk in _chunks(keys):
            self._run(_MARK_SEEN, until, *chunk)

    def seen(self, keys: Iterable[str]) -> set[str]:
        """See `EventLog.seen`."""
        found: set[str] = set()
        now = _ms(self._real())
        for chunk in _chunks(keys):
            with self._reached() as client:
                ends: Any = client.mget([f"{self._prefix}seen:{key}" for key in chunk])
            found.update(
                key for key, end in zip(chunk, ends, strict=True) if end and int(end) > now
            )
        return found

    def last_signs(self, partitions: Collection[str]) -> dict[str, datetime]:
        """See `EventLog.last_signs`."""
        found: dict[str, datetime] = {}
        for chunk in _chunks(partitions):
            with self._reached() as client:
                scores: Any = client.zmscore(f"{self._prefix}signs", chunk)
            found |= _times(chunk, scores)
        return found

    def last_marks(self, partitions: Collection[str]) -> dict[str, str]:
        """See `EventLog.last_marks`."""
        found: dict[str, str] = {}
        for chunk in _chunks(partitions):
            with self._reached() as client:
                marks: Any = client.hmget(f"{self._prefix}marks", chunk)
            pairs = zip(chunk, marks, strict=True)
            found |= {name: mark.decode() for name, mark in pairs if mark is not None}
        return found

    def silent(self, before: datetime, limit: int, after: str = "") -> list[str]:
        """See `EventLog.silent`. One round trip, two when there is a page before."""
        signs, end = f"{self._prefix}signs", before.timestamp()
        first = 0
        with self._reached() as client:
            if after:
                with client.pipeline(transaction=True) as pipe:
                    pipe.zscore(signs, after)
                    pipe.zrank(signs, after)
                    score, rank = pipe.execute()
                if score is not None and score < end:
                    first = rank + 1
            found: Any = client.zrange(signs, first, first + limit - 1, withscores=True)
        return [partition.decode() for partition, at in found if at < end]

    def forget(self, partitions: Collection[str]) -> None:
        """See `EventLog.forget`."""
        self._signs.drop(partitions)
        for chunk in _chunks(partitions):
            with self._reached() as client, client.pipeline(transaction=True) as pipe:
                pipe.zrem(f"{self._prefix}signs", *chunk)
                pipe.hdel(f"{self._prefix}marks", *chunk)
                pipe.execute()

    # --- dead letters and housekeeping -----------------------------------------------------

    def dead_since(self, partitions: Collection[str]) -> dict[str, datetime]:
        """See `EventLog.dead_since`."""
        found: dict[str, datetime] = {}
        for chunk in _chunks(partitions):
            with self._reached() as client:
                scores: Any = client.zmscore(f"{self._prefix}dead", chunk)
            found |= _times(chunk, [score and score / 1000 for score in scores])
        return found

    def revive(self, partitions: Collection[str]) -> None:
        """See `EventLog.revive`."""
        for chunk in _chunks(partitions):
            self._run(_REVIVE, *chunk)
        self._dead.expire()

    def has_dead_letters(self, partition: str) -> bool:
        """See `EventLog.has_dead_letters`. No round trip."""
        return partition in self._dead

    def _dead_version(self) -> Any:
        with self._reached() as client, client.pipeline(transaction=True) as pipe:
            pipe.zcard(f"{self._prefix}dead")
            pipe.zrange(f"{self._prefix}buried", -1, -1, withscores=True)
            return pipe.execute()

    def _dead_partitions(self) -> frozenset[str]:
        with self._reached() as client:
            found: Any = client.zrange(f"{self._prefix}dead", 0, -1)
        return frozenset(partition.decode() for partition in found)

    def purge(self) -> None:
        """See `EventLog.purge`. Expired seen marks go by themselves."""
        now = self._life_clock()
        kept = (DEAD_LETTERS_KEPT_S, UNWANTED_KEPT_S, SIGNS_KEPT_S)
        while self._run(_PURGE, *(repr(now - span) for span in kept), _WORKER_GONE_MS):
            pass
        with self._reached() as client:
            kinds: Any = client.hvals(f"{self._prefix}kinds")
        for kind in kinds:
            begin = b"0-0"
            while (begin := self._run(_SWEEP, kind, _ASTRAY_MS, begin)) != b"0-0":
                pass

    # --- how Redis is met ------------------------------------------------------------------

    def _run(self, script: Script, *values: Value) -> Any:
        with self._reached() as client:
            return script.run(client, self._prefix, self._now(), *values)

    def _now(self) -> str:
        return str(_ms(self._clock())) if self._clock else ""

    def _real(self) -> float:
        return (self._clock or time.time)()

    @contextmanager
    def _reached(self) -> Iterator[Redis]:
        """The client; any error of Redis becomes LogUnavailable, without what was sent."""
        try:
            if not self._checked:
                self._check()
            yield self._client
        except RedisError as error:
            if isinstance(error, ReadOnlyError):
                # It was the primary: ask again where that is.
                self._client.connection_pool.disconnect()
            raise LogUnavailable(type(error).__name__) from None

    def _check(self) -> None:
        """Warn once, when Redis is first reached, of what may lose entries."""
        for fault in durability.faults(self._client, self._wait_replicas):
            _log.warning("event log: %s", fault)
        self._checked = True


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _times(names: Iterable[str], times: Iterable[float | None]) -> dict[str, datetime]:
    pairs = zip(names, times, strict=True)
    return {name: datetime.fromtimestamp(at, UTC) for name, at in pairs if at is not None}


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    distinct = list(dict.fromkeys(keys))
    return (distinct[start : start + _CHUNK] for start in range(0, len(distinct), _CHUNK))


def _to_number(stream_id: bytes, kind: int) -> int:
    """An id of a stream and the number of its kind as the one number that others see."""
    first, _, salt = stream_id.partition(b"-")
    return (int(first) << _SALT_BITS | int(salt)) << _KIND_BITS | kind


def _from_number(entry_id: int) -> tuple[int, str]:
    both = entry_id >> _KIND_BITS
    salt = both & ((1 << _SALT_BITS) - 1)
    return entry_id & ((1 << _KIND_BITS) - 1), f"{both >> _SALT_BITS}-{salt}"


def _by_kind(ids: Iterable[int]) -> Iterator[tuple[int, list[str]]]:
    """The ids as the streams have them, by the number of their kind, in lists for one script."""
    kinds: dict[int, list[str]] = {}
    for entry_id in ids:
        kind, stream_id = _from_number(entry_id)
        kinds.setdefault(kind, []).append(stream_id)
    for kind, stream_ids in kinds.items():
        for chunk in _chunks(stream_ids):
            yield kind, chunk


_APPEND: Final = Script("append")
_CLAIM: Final = Script("claim")
_RENEW: Final = Script("renew")
_DELAY: Final = Script("delay")
_ACKNOWLEDGE: Final = Script("acknowledge")
_BURY: Final = Script("bury")
_REVIVE: Final = Script("revive")
_SIGNS: Final = Script("signs")
_MARK_SEEN: Final = Script("mark_seen")
_UNWANT: Final = Script("unwant")
_PURGE: Final = Script("purge")
_SWEEP: Final = Script("sweep")
