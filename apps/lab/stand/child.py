"""One supervised program with all the processes it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# With its own group the console's Ctrl-C reaches the supervisor alone, which then stops all in
# order.
_OWN_GROUP: dict[str, Any]
if sys.platform == "win32":
    _OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _OWN_GROUP = {"start_new_session": True}


@dataclass(frozen=True)
class Program:
    """What is started: a name for people, a command line, its environment and its log file.

    `account`: whose process it becomes, for what refuses to run as root.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    account: str = ""


class Child:
    """A program that runs, and its family: the processes it started in turn.

    The family is remembered by process id and start time, because a dead granian's workers are
    nobody's children any more and yet hold its port. Not safe for threads: the supervisor locks.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.starts = 0
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[psutil.Process, float] = {}

    def start(self) -> None:
        """Start the program; what is left of its last run is killed first."""
        self.kill()
        with self.program.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.program.command),
                cwd=self.program.directory,
                env=dict(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **_OWN_GROUP,
                **_as_account(self.program.account),
            )
        self.starts += 1
        self.started_at = time.monotonic()
        self.look()

    def running(self) -> bool:
        """Whether the program's first process is alive."""
        return self._process is not None and self._process.poll() is None

    def look(self) -> None:
        """Note which processes the program has by now and what CPU time each has used."""
        if self._process is not None and self.running():
            with suppress(psutil.Error):
                first = psutil.Process(self._process.pid)
                for process in [first, *first.children(recursive=True)]:
                    self._family.setdefault(process, 0.0)
        for process in self._family:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._family[process] = times.user + times.system

    def cpu_seconds(self) -> float:
        """CPU time of all processes the program ever had, as far as they were seen."""
        self.look()
        return sum(self._family.values())

    def living(self) -> list[psutil.Process]:
        """The processes of the family that are alive."""
        return [process for process in self._family if _alive(process)]

    def kill(self) -> None:
        """Kill the whole family at once (-9), so that nothing can be tidied up."""
        self.look()
        for process in self.living():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.living(), timeout=10)
        if self._process is not None:
            self._process.wait(timeout=10)

    def ask_to_stop(self) -> None:
        """Ask the program to end by itself, as a service manager would."""
        if self._process is None or not self.running():
            return
        with suppress(OSError):
            if sys.platform == "win32":
                os.kill(self._process.pid, signal.CTRL_BREAK_EVENT)
            else:
                self._process.terminate()


def _as_account(name: str) -> dict[str, Any]:
    return {"user": name, "group": name, "extra_groups": []} if name else {}


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
