"""A PostgreSQL 15 (or newer) of the tests' own, on a free port in a temporary directory.

A room that wants it imports the fixture into its `conftest.py`:

    from tests.postgres import postgres  # noqa: F401
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

_USER = "ens"
_OLDEST = 15


def _binaries() -> Path | None:
    """The newest installation's bin directory, Debian's first."""
    found = [
        path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()
    ]
    found = [path for path in found if int(path.parent.name) >= _OLDEST]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


class Postgres:
    """A cluster. `stop` and `start` may be called again and again; the port stays."""

    def __init__(self, binaries: Path, home: Path) -> None:
        self._binaries = binaries
        self._home = home
        self._password = secrets.token_urlsafe(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        # The server refuses to run as root.
        self._account: dict[str, Any] = {}
        if sys.platform != "win32" and os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
            self._account = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._init()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self._home,
            stdout=subprocess.DEVNULL,  # the server would inherit a pipe and keep it open
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
            **self._account,
        )
        if done.returncode:
            log = self._home / "log"
            raise RuntimeError(f"{program}: {log.read_text() if log.exists() else done}")

    def _init(self) -> None:
        password = self._home / "password"
        password.write_text(self._password)
        if self._account:
            shutil.chown(password, "postgres")
        data = str(self._home / "data")
        self._run(
            "initdb", "-D", data, "-U", _USER, "-A", "scram-sha-256", "--pwfile", str(password),
            "--no-sync", "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        with (self._home / "data" / "postgresql.conf").open("a") as config:
            config.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                "unix_socket_directories = ''\nfsync = off\nmax_connections = 50\n"
            )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run(
            "pg_ctl", "start", "-w", "-D", str(self._home / "data"), "-l", str(self._home / "log")
        )

    def stop(self) -> None:
        """Stop the server at once, as a crash would; connections break."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._home / "data"))

    def create_database(self) -> dict[str, Any]:
        """Make an empty database; returns how Django's DATABASES names it."""
        name = f"ens_{secrets.token_hex(4)}"
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=_USER, password=self._password, dbname="postgres"
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        connection.close()
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": _USER,
            "PASSWORD": self._password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "OPTIONS": {"connect_timeout": 5},
        }


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server for the whole test run; skips where PostgreSQL is absent."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL {_OLDEST} or newer on this machine")
    # Not pytest's own directory: that one is closed to the account the server runs as.
    home = Path(tempfile.mkdtemp(prefix="ens-postgres-"))
    try:
        server = Postgres(binaries, home)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
