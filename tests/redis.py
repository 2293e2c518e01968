"""A Redis 7 of the tests' own, and one with a replica and Sentinels, on free loopback ports.

A room that wants one imports the fixture into its `conftest.py`:

    from tests.redis import redis_server  # noqa: F401
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

SERVICE = "ens"
_PATIENCE_S = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def binary() -> str:
    """The server's program; skips where Redis is absent."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no Redis on this machine")
    return found


class RedisServer:
    """A server. It may be killed and started again and again; the port and the data stay."""

    def __init__(self, home: Path, *options: str) -> None:
        self.port = free_port()
        self._home = home
        self._home.mkdir(parents=True, exist_ok=True)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        return Redis(port=self.port, socket_timeout=5)

    def start(self, *options: str) -> None:
        """Start the server and wait until it answers."""
        arguments = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._home),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "repl-diskless-sync-delay": "0",
            "logfile": str(self._home / "log"),
        }
        command = [
            binary(),
            *(x for name, value in arguments.items() for x in (f"--{name}", value)),
        ]
        self._process = subprocess.Popen([*command, *self._options, *options])
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Sentinels:
    """A primary, a replica and three Sentinels that watch them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.primary = RedisServer(home / "first")
        self.primary.start()
        self.replica = RedisServer(
            home / "second", "--replicaof", "127.0.0.1", str(self.primary.port)
        )
        self.replica.start()
        self.ports = [free_port() for _ in range(3)]
        self._processes: list[subprocess.Popen[bytes]] = []
        wait_until(self._replicates)
        for port in self.ports:
            self._start_sentinel(port)
        for port in self.ports:
            wait_until(lambda port=port: self._knows_all(port))  # type: ignore[misc]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def _replicates(self) -> bool:
        with self.replica.client() as client:
            return client.info("replication").get("master_link_status") == "up"

    def _start_sentinel(self, port: int) -> None:
        config = self._home / f"sentinel-{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._home}\nlogfile {config}.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        self._processes.append(subprocess.Popen([binary(), str(config), "--sentinel"]))

    def _knows_all(self, port: int) -> bool:
        try:
            with Redis(port=port, socket_timeout=2) as client:
                state = client.sentinel_master(SERVICE)
        except RedisError:
            return False
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.primary.kill()
        self.replica.kill()


def wait_until(condition: object, patience_s: float = _PATIENCE_S) -> None:
    """Ask again and again until it is so; fails when that takes too long."""
    assert callable(condition)
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server that syncs always, for the whole test run."""
    binary()
    home = Path(tempfile.mkdtemp(prefix="ens-redis-"))
    server = RedisServer(home)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """A watched pair of servers of the test's own."""
    binary()
    home = Path(tempfile.mkdtemp(prefix="ens-sentinels-"))
    made = Sentinels(home)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)
