"""Redis for a stand: a master, a replica and a Sentinel, each a program that may be killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import redis

from apps.lab.stand import waiting
from apps.lab.stand.child import Program
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.side import clean_environment

SERVICE = "ens"
SENTINEL = "sentinel"
NODES = ("redis-1", "redis-2")
# Longer than a restart takes, so that only a server that stays away leads to a fail-over.
DOWN_AFTER_MS = 2500
TIMEOUT_S = 2.0
_NODE = """
bind {host}
port {port}
dir {directory}
appendonly yes
appendfsync always
save ""
daemonize no
repl-diskless-sync-delay 0
"""
_SENTINEL = """
bind {host}
port {port}
dir {directory}
sentinel monitor {service} {host} {master} 1
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 6000
sentinel parallel-syncs {service} 1
"""


class RedisMissing(Exception):
    """No redis-server is installed."""


class RedisServers:
    """Two data nodes and one Sentinel in `directory`."""

    def __init__(self, directory: Path, logs: Path) -> None:
        server = shutil.which("redis-server")
        if server is None:
            raise RedisMissing("Redis 7 is not installed")
        self._server = server
        self._directory = directory
        self._logs = logs
        self._ports = {name: free_port() for name in NODES}
        self._sentinel_port = free_port()

    @property
    def broker_url(self) -> str:
        """ENS_BROKER_URL."""
        return f"sentinel://{HOST}:{self._sentinel_port}?service={SERVICE}"

    def set_up(self) -> Sequence[Program]:
        """Write the configurations; returns the programs in the order of their start.

        Sentinel must start when `following` is true: it asks for replicas every ten seconds only.
        """
        first, second = NODES
        replica_of = f"replicaof {HOST} {self._ports[first]}\n"
        return [self._node(first, ""), self._node(second, replica_of), self._sentinel()]

    def following(self) -> bool:
        """Whether the second node follows the first."""
        try:
            with self._client(self._ports[NODES[1]]) as replica:
                return bool(replica.info("replication").get("master_link_status") == "up")
        except redis.RedisError:
            return False

    def answers(self) -> bool:
        """Whether Sentinel knows the master and its replica."""
        try:
            with self._client(self._sentinel_port) as sentinel:
                return len(sentinel.sentinel_slaves(SERVICE)) == len(NODES) - 1
        except redis.RedisError:
            return False

    def master(self) -> str:
        """The name of the program that is the master by Sentinel's word; raises RedisError."""
        with self._client(self._sentinel_port) as sentinel:
            _, port = sentinel.sentinel_get_master_addr_by_name(SERVICE)
        return next(name for name, known in self._ports.items() if known == int(port))

    def await_other_master(self, than: str, seconds: float) -> None:
        """Wait until Sentinel has made another program the master, and that one agrees.

        Raises:
            TookTooLong: it did not within `seconds`.
        """

        def changed() -> bool:
            try:
                name = self.master()
                if name == than:
                    return False
                with self._client(self._ports[name]) as client:
                    return bool(client.info("replication")["role"] == "master")
            except redis.RedisError:
                return False

        waiting.until("a fail-over", changed, seconds)

    def _client(self, port: int) -> redis.Redis:
        return redis.Redis(
            host=HOST,
            port=port,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            decode_responses=True,
        )

    def _node(self, name: str, more: str) -> Program:
        directory = self._directory / name
        directory.mkdir(parents=True)
        text = _NODE.format(host=HOST, port=self._ports[name], directory=directory.as_posix())
        return self._program(name, directory, text + more)

    def _sentinel(self) -> Program:
        directory = self._directory / SENTINEL
        directory.mkdir(parents=True)
        text = _SENTINEL.format(
            host=HOST,
            port=self._sentinel_port,
            directory=directory.as_posix(),
            service=SERVICE,
            master=self._ports[NODES[0]],
            down_after=DOWN_AFTER_MS,
        )
        return self._program(SENTINEL, directory, text, "--sentinel")

    def _program(self, name: str, directory: Path, text: str, *words: str) -> Program:
        # Redis and Sentinel rewrite their own file when roles change.
        file = directory / "redis.conf"
        file.write_text(text, "utf-8")
        command = [self._server, str(file), *words]
        return Program(name, command, clean_environment(), directory, self._logs / f"{name}.log")
