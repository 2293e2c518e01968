"""PostgreSQL for a stand: a cluster of its own, run and killed as any other program of it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from apps.lab.stand.child import Program
from apps.lab.stand.ports import HOST, free_port
from apps.lab.stand.side import clean_environment

NAME = "postgres"
OLDEST = 15
_USER = _DATABASE = "ens"
_CONFIGURATION = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 100
fsync = off
"""


class PostgresMissing(Exception):
    """No PostgreSQL of a sufficient version is installed."""


def binaries() -> Path:
    """The newest installation's programs, Debian's first; raises PostgresMissing."""
    versions = {
        int(path.parent.name): path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if path.parent.name.isdigit()
    }
    if versions and max(versions) >= OLDEST:
        return versions[max(versions)]
    initdb = shutil.which("initdb")
    if initdb is None:
        raise PostgresMissing(f"PostgreSQL {OLDEST} or newer is not installed")
    return Path(initdb).parent


class Postgres:
    """A cluster in a directory of its own; `close` removes it.

    What it answered for survives a killed process (not a power cut: `fsync` is off, since the
    lab only ever kills processes).
    """

    def __init__(self, logs: Path) -> None:
        self._binaries = binaries()
        self._logs = logs
        self._port = free_port()
        self._password = secrets.token_urlsafe(16)
        # Not in the stand's directory: that one is closed to the account the server runs as.
        self._home = Path(tempfile.mkdtemp(prefix="ens-postgres-"))
        self._data = self._home / "data"
        # The server refuses to run as root.
        as_root = sys.platform != "win32" and os.geteuid() == 0
        self._account = "postgres" if as_root else ""

    @property
    def url(self) -> str:
        """ENS_DATABASE_URL; the database is made by `create_database`."""
        return f"postgres://{_USER}:{self._password}@{HOST}:{self._port}/{_DATABASE}"

    def set_up(self) -> Program:
        """Make the cluster; returns the program that serves it."""
        password = self._home / "password"
        password.write_text(self._password, "ascii")
        if self._account:
            for path in (self._home, password):
                shutil.chown(path, self._account)
        self._run(
            *("initdb", "-D", str(self._data), "-U", _USER, "-A", "scram-sha-256"),
            *("--pwfile", str(password), "--no-sync", "-E", "UTF8", "--locale=C"),
        )
        with (self._data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write(_CONFIGURATION.format(host=HOST, port=self._port))
        return Program(
            NAME,
            [str(self._binaries / "postgres"), "-D", str(self._data)],
            clean_environment(),
            self._home,
            self._logs / f"{NAME}.log",
            account=self._account,
        )

    def answers(self) -> bool:
        """Whether it takes connections at this moment."""
        command = [str(self._binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(self._port)]
        return subprocess.run(command, check=False, timeout=30).returncode == 0

    def create_database(self) -> None:
        """Make the empty database that `url` names."""
        self._run(
            *("createdb", "-h", HOST, "-p", str(self._port), "-U", _USER, _DATABASE),
            environment={"PGPASSWORD": self._password},
        )

    def close(self) -> None:
        """Remove the cluster; its program must have ended."""
        shutil.rmtree(self._home, ignore_errors=True)

    def _run(self, program: str, *words: str, environment: dict[str, str] | None = None) -> None:
        account: dict[str, Any] = {}
        if self._account:
            account = {"user": self._account, "group": self._account, "extra_groups": []}
        done = subprocess.run(
            [str(self._binaries / program), *words],
            cwd=self._home,
            env=clean_environment() | (environment or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **account,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()[-500:]}")
