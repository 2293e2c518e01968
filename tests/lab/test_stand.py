"""The supervisor: real processes that die, leave children behind, or lose their supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from apps.lab.stand import ports, signals
from apps.lab.stand.child import Program
from apps.lab.stand.supervisor import Supervisor
from apps.lab.stand.waiting import TookTooLong, until

ROOT = Path(__file__).resolve().parents[2]

# Starts a child of its own, as granian does, and writes both process ids down.
WITH_CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("pids", "a") as file:
    print(os.getpid(), child.pid, file=file)
time.sleep(600)
"""


def program(directory: Path, code: str, name: str = "it") -> Program:
    return Program(
        name, [sys.executable, "-c", code], os.environ, directory, directory / f"{name}.log"
    )


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    it = Supervisor(tmp_path)
    yield it
    it.end()


def test_what_dies_is_started_again_and_leaves_no_child_behind(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(program(tmp_path, WITH_CHILD))
    until("first start", lambda: len(lines(tmp_path / "pids")) == 1, 10)
    parent, child = map(int, lines(tmp_path / "pids")[0].split())
    # The supervisor must have seen the child before its parent dies.
    until("child seen", lambda: str(child) in (tmp_path / "processes.json").read_text(), 10)

    psutil.Process(parent).kill()

    until("second start", lambda: len(lines(tmp_path / "pids")) == 2, 10)
    assert not alive(child)
    assert supervisor.starts("it") == 2


def test_kill_reaches_the_whole_family(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, WITH_CHILD))
    until("first start", lambda: len(lines(tmp_path / "pids")) == 1, 10)
    pids = [int(word) for word in lines(tmp_path / "pids")[0].split()]
    supervisor.kill("it")
    assert [alive(pid) for pid in pids] == [False, False]


def test_a_stopped_program_stays_dead_until_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(program(tmp_path, "import time; time.sleep(600)"))
    supervisor.stop("it")
    with pytest.raises(TookTooLong):
        until("restart", lambda: supervisor.running("it"), 1)
    supervisor.start_again("it")
    assert supervisor.running("it")


def test_a_program_that_is_replaced_may_end_in_good_order(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    polite = """
import pathlib, signal, time
asked = getattr(signal, "SIGBREAK", signal.SIGTERM)
signal.signal(asked, lambda *_: exit(print("bye", flush=True)))
pathlib.Path("ready").touch()
time.sleep(600)
"""
    supervisor.start(program(tmp_path, polite))
    until("the old one", (tmp_path / "ready").exists, 10)
    supervisor.replace(program(tmp_path, "import time; print('new', flush=True); time.sleep(600)"))
    until("the new one", lambda: lines(tmp_path / "it.log") == ["bye", "new"], 10)
    assert supervisor.running("it")


def test_cpu_time_counts_dead_and_living_processes(supervisor: Supervisor, tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(600)"
    supervisor.start(program(tmp_path, burn))
    until("0.4 s of work", lambda: supervisor.cpu_seconds()["it"] >= 0.4, 20)
    supervisor.kill("it")
    until("as much again", lambda: supervisor.cpu_seconds()["it"] >= 0.8, 20)


def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from apps.lab.stand.child import Program
from apps.lab.stand.supervisor import Supervisor
here = Path({str(tmp_path)!r})
it = Supervisor(here)
it.start(Program("it", [sys.executable, "-c", {WITH_CHILD!r}], os.environ, here, here / "log"))
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until("start", lambda: len(lines(tmp_path / "pids")) == 1, 20)
    pids = [int(word) for word in lines(tmp_path / "pids")[0].split()]
    until("noted", lambda: str(pids[1]) in (tmp_path / "processes.json").read_text(), 10)
    process.kill()
    process.wait()
    until("their end", lambda: not any(alive(pid) for pid in pids), 10)


def test_a_port_in_use_is_not_given_out() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        assert ports.free_port(preferred=taken) != taken


def test_no_port_is_given_out_twice() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50


def test_a_request_to_stop_does_not_cut_the_tidying_up_short() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.undisturbed():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
