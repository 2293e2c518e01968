"""Keeps programs running: starts again what dies, stops all of them in order."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from apps.lab.stand.child import Child, Program

log = logging.getLogger(__name__)

TICK_S = 0.1
LOOK_EVERY_S = 0.5
# A program that dies this soon after its start is started again more and more slowly.
SOON_S = 5.0
LONGEST_PAUSE_S = 5.0
STOP_PATIENCE_S = 10.0


class Supervisor:
    """Runs programs under watch. The methods may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        self._children: dict[str, Child] = {}
        self._stopped: set[str] = set()
        self._again_at: dict[str, float] = {}
        self._quick_deaths: dict[str, int] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._list = directory / "processes.json"
        self._note_processes()
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "apps.lab.stand.guardian", str(self._list)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def start(self, program: Program) -> None:
        """Start a program and keep it running from now on."""
        with self._lock:
            child = self._children[program.name] = Child(program)
            child.start()
            self._note_processes()

    def stop(self, name: str) -> None:
        """Kill a program and leave it dead until `start_again`."""
        with self._lock:
            self._stopped.add(name)
            self._children[name].kill()

    def start_again(self, name: str) -> None:
        """Start a program that `stop` ended."""
        with self._lock:
            self._stopped.discard(name)
            self._children[name].start()
            self._note_processes()

    def replace(self, program: Program) -> None:
        """Ask the program of this name to end, as a service manager does, and start this one."""
        with self._lock:
            self._end_group([self._children[program.name]])
            self.start(program)

    def kill(self, name: str) -> None:
        """Kill a program and all its processes with -9; it is started again soon."""
        with self._lock:
            self._children[name].kill()

    def starts(self, name: str) -> int:
        """How often the program was started."""
        with self._lock:
            return self._children[name].starts

    def running(self, name: str) -> bool:
        with self._lock:
            return self._children[name].running()

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds each program and its processes have used so far, by program name."""
        with self._lock:
            return {name: child.cpu_seconds() for name, child in self._children.items()}

    def end(self, order: Sequence[Sequence[str]] = ()) -> None:
        """Stop everything for good, one group after another (the unnamed ones last).

        Each program is asked first and killed when it has not ended after STOP_PATIENCE_S.
        """
        self._ended.set()
        self._watcher.join()
        named = {name for group in order for name in group}
        rest = [name for name in self._children if name not in named]
        for group in [*order, rest]:
            self._end_group([self._children[name] for name in group if name in self._children])
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        self._guardian.wait(timeout=STOP_PATIENCE_S)

    def _end_group(self, children: Sequence[Child]) -> None:
        for child in children:
            child.look()
            child.ask_to_stop()
        deadline = time.monotonic() + STOP_PATIENCE_S
        while any(child.running() for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)
        for child in children:
            child.kill()

    def _watch(self) -> None:
        look_at = 0.0
        while not self._ended.wait(TICK_S):
            with self._lock:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + LOOK_EVERY_S
                    for child in self._children.values():
                        child.look()
                    self._note_processes()
                for name, child in self._children.items():
                    if name not in self._stopped and not child.running():
                        self._revive(name, child)

    def _revive(self, name: str, child: Child) -> None:
        now = time.monotonic()
        if name not in self._again_at:
            died_soon = now - child.started_at < SOON_S
            deaths = self._quick_deaths[name] = (
                self._quick_deaths.get(name, 0) + 1 if died_soon else 0
            )
            self._again_at[name] = now + min(LONGEST_PAUSE_S, 0.2 * 2**deaths)
            log.warning("%s has ended; it is started again", name)
        if now >= self._again_at[name]:
            del self._again_at[name]
            child.start()
            self._note_processes()

    def _note_processes(self) -> None:
        """Tell the guardian whom to kill should we be killed ourselves."""
        found = [
            (process.pid, process.create_time())
            for child in self._children.values()
            for process in child.living()
        ]
        fresh = self._list.with_suffix(".new")
        fresh.write_text(json.dumps(found), "utf-8")
        fresh.replace(self._list)
