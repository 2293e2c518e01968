"""Keeps processes running until it is told to stop, and then stops them gracefully.

What a Windows service does between start and stop. Knows nothing of Windows, so that it is the same
code that the tests run.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ens_project import __version__

_LOOK_S: Final = 0.5
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_STABLE_S: Final = 300.0
# What a process writes to standard error is what it can't log: why it didn't start.
_MOST_WORDS: Final = 1024 * 1024


def settings_mark(env_file: Path) -> str:
    """Another text whenever ens.env or ENS itself is another; tells nothing of what is in it."""
    try:
        found = env_file.stat()
    except OSError:
        return __version__
    return f"{__version__} {found.st_size} {found.st_mtime_ns}"


def mark_file(logs: Path, name: str) -> Path:
    """Where a running service says with which settings it began: the mark of then."""
    return logs / f"{name}.settings"


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running: `name` is that of its file of last words."""

    name: str
    argv: Sequence[str]


class _Kept:
    """One program and the process that runs it now, if one does."""

    def __init__(self, program: Program, host: Host) -> None:
        self._program = program
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._due = 0.0
        self._pause = _FIRST_PAUSE_S

    def look(self) -> None:
        """Start the process if it doesn't run, later and later if it ends again and again."""
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._release(self._process)
            self._process = None
            if now - self._began > _STABLE_S:
                self._pause = _FIRST_PAUSE_S
            self._due = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
        if now >= self._due:
            self._began = now
            self._process = self._host.start(self._program)

    def ask_to_stop(self) -> None:
        """Close the process's standard input (see until_eof.py)."""
        if self._process is not None:
            self._release(self._process)

    def end(self, deadline: float) -> None:
        """Wait for the process, and end it by force at the deadline."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @staticmethod
    def _release(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()


class Host:
    """Keeps programs running.

    `environment` is all that the processes get; `grace_s` is how long they may take to stop.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        directory: Path,
        logs: Path,
        environment: Mapping[str, str],
        grace_s: float = 30.0,
    ) -> None:
        self._kept = [_Kept(program, self) for program in programs]
        self._directory = directory
        self._logs = logs
        self._environment = dict(environment)
        self._grace_s = grace_s

    def run(self, stop: threading.Event) -> None:
        """Return when `stop` is set and every process has ended."""
        try:
            while not stop.is_set():
                for kept in self._kept:
                    kept.look()
                stop.wait(_LOOK_S)
        finally:
            for kept in self._kept:
                kept.ask_to_stop()
            deadline = time.monotonic() + self._grace_s
            for kept in self._kept:
                kept.end(deadline)

    def start(self, program: Program) -> subprocess.Popen[bytes]:
        """Start the program with a pipe to its standard input."""
        self._logs.mkdir(parents=True, exist_ok=True)
        words = self._logs / f"{program.name}.stderr.log"
        full = words.exists() and words.stat().st_size > _MOST_WORDS
        with words.open("wb" if full else "ab") as file:
            return subprocess.Popen(  # noqa: S603 - our own commands
                program.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                cwd=self._directory,
                env=self._environment,
                # A service has no console; without this each process would get one of its own.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
