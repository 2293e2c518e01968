"""The bench's own processes: spoken to in lines, measured from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from apps.lab.stand.side import ROOT, clean_environment

_PATIENCE_S = 10.0


class Failed(Exception):
    """A process of the bench has ended or spoken nonsense; the message ends with its last words."""


class Spoken:
    """A process that answers each line it reads with one line; it ends when we do."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=dict(clean_environment() if environment is None else environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )

    def say(self, line: str) -> None:
        """Write a line; raises Failed when nobody reads any more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self._last_words()) from None

    def hear(self) -> str:
        """Wait for a line; raises Failed when the process ends instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self._last_words())
        return line.strip()

    def ask(self, line: str) -> dict[str, Any]:
        """Say a line and hear one of JSON."""
        self.say(line)
        found: dict[str, Any] = json.loads(self.hear())
        return found

    def cpu_seconds(self) -> float:
        """CPU time, user and system, of the process and those it has started."""
        return cpu_seconds(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_PATIENCE_S if error is None else 0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=_PATIENCE_S)

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return f"{self._log.stem} has ended:\n" + "\n".join(lines[-15:])


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, of a process and those it has started, as far as they live."""
    first = psutil.Process(pid)
    total = 0.0
    for process in [first, *first.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total
