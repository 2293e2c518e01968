"""Two beats on two servers, as processes: one sends; it is killed, stopped, woken."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from apps.lab.stand import commands
from apps.lab.stand.side import ROOT, clean_environment
from apps.lab.stand.waiting import until

# What is promised of a beat that dies without a word.
TAKEN_OVER_S = 30.0
WATCHED_S = 2.5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@dataclass
class Server:
    """A server's beat. What it sends lies in a folder of its own: nobody fetches it."""

    environment: dict[str, str]
    folder: Path
    database: Path
    process: psutil.Popen | None = None

    def start(self) -> None:
        log = (self.folder.parent.parent / "beat.log").open("ab")
        self.process = psutil.Popen(
            [sys.executable, "-m", "celery", "--quiet", "-A", "ens_project", "beat", "--pidfile="],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()

    @property
    def sent(self) -> int:
        with suppress(FileNotFoundError):
            return len(list(self.folder.iterdir()))
        return 0

    def sends(self) -> bool:
        """Whether more comes from it within the next moment."""
        before = self.sent
        time.sleep(0.2)
        return self.sent > before

    def end(self) -> None:
        if self.process is not None and self.process.is_running():
            self.process.kill()
            self.process.wait(timeout=20)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """One database, two servers, each with directories of its own; tables, but no beat yet."""

    database = tmp_path / "shared.sqlite3"

    def server(name: str) -> Server:
        home = tmp_path / name
        home.mkdir()
        settings = {
            "ENV_FILE": str(tmp_path / "no.env"),
            "SECRET_KEY": "only-for-tests-0123456789-0123456789",
            "LINK_ADDRESS": "https://ens.example/MailNotificationService/api/ens",
            "DATA_DIR": str(home),
            "DATABASE_URL": f"sqlite:///{database.as_posix()}",
            "MASTER_KEY_FILE": str(tmp_path / "master.key"),
        }
        own = {f"ENS_{key}": value for key, value in settings.items()}
        environment = clean_environment() | own
        environment["DJANGO_SETTINGS_MODULE"] = "ens_project.settings"
        return Server(environment, home / "broker" / "messages", database)

    both = server("one"), server("two")
    lines = [["ens_master_key"], ["migrate", "--verbosity", "0"]]
    commands.run(lines, both[0].environment, ROOT)
    yield both
    for each in both:
        each.end()


def _silent(server: Server) -> bool:
    before = server.sent
    time.sleep(WATCHED_S)
    return server.sent == before


def test_one_of_two_beats_sends_whatever_befalls_it(servers: tuple[Server, Server]) -> None:
    one, two = servers
    one.start()
    until("the first to send", one.sends, TAKEN_OVER_S)
    two.start()
    # It would have begun by now if nothing held it back.
    time.sleep(WATCHED_S)
    assert one.sends() or one.sends()
    assert two.sent == 0

    assert one.process is not None and two.process is not None
    one.process.suspend()
    until("the second to send", two.sends, TAKEN_OVER_S)
    one.process.resume()
    assert _silent(one), "one that was stopped for long went on as if nothing had happened"
    assert two.sends() or two.sends()

    two.process.kill()
    began = time.monotonic()
    until("the first to take over again", one.sends, TAKEN_OVER_S)
    assert time.monotonic() - began <= TAKEN_OVER_S

    one.process.terminate()
    one.process.wait(timeout=TAKEN_OVER_S)
    with closing(sqlite3.connect(one.database)) as database:
        rows = database.execute("SELECT name, holder FROM operations_lease").fetchall()
    assert rows == [("beat", "")], "one that ends in good order lets the next one begin at once"
