"""What the Windows service does between start and stop: the same code, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.operations.install import windows_service
from apps.operations.install.service_host import Host, Program
from ens_project.env import BASE_DIR
from tests.operations.install.deployment import Deployment, clean

# Says that it runs, and how it ends, in a file of its own.
CHILD = """
import os, signal, sys, time
out = sys.argv[1]
def end(*_):
    open(out, "a").write("asked\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end if len(sys.argv) < 3 else lambda *_: None)
open(out, "a").write(f"{os.getpid()}\\n")
while True:
    time.sleep(0.05)
"""


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@pytest.fixture
def child(tmp_path: Path) -> list[str]:
    (tmp_path / "child.py").write_text(CHILD)
    return [sys.executable, "-m", "apps.operations.install.until_eof", "child"]


def host(tmp_path: Path, *programs: Program, **changes: Any) -> Host:
    environment = clean() | {"PYTHONPATH": os.pathsep.join([str(BASE_DIR), str(tmp_path)])}
    made = {"directory": tmp_path, "logs": tmp_path / "logs", "environment": environment}
    return Host(programs, **(made | changes))


def run(host: Host) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=host.run, args=(stop,))
    thread.start()
    return thread, stop


def test_a_process_that_ends_is_started_again_and_all_are_asked_to_stop(
    tmp_path: Path, child: list[str]
) -> None:
    out = tmp_path / "out"
    other = tmp_path / "other"
    thread, stop = run(
        host(tmp_path, Program("a", [*child, str(out)]), Program("b", [*child, str(other)]))
    )
    until(lambda: len(words(out)) == 1 and len(words(other)) == 1)
    os.kill(int(words(out)[0]), getattr(signal, "SIGKILL", signal.SIGTERM))
    until(lambda: len(words(out)) == 2)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert words(out)[2:] == ["asked"]
    assert words(other)[1:] == ["asked"]


def test_one_that_does_not_stop_is_ended(tmp_path: Path, child: list[str]) -> None:
    out = tmp_path / "out"
    stubborn = host(tmp_path, Program("a", [*child, str(out), "deaf"]), grace_s=1.0)
    thread, stop = run(stubborn)
    until(lambda: len(words(out)) == 1)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(int(words(out)[0]), 0)


def test_why_one_does_not_start_is_in_a_file_and_it_is_tried_later_and_later(
    tmp_path: Path,
) -> None:
    failing = Program("a", [sys.executable, "-c", "import sys; sys.exit('no settings')"])
    thread, stop = run(host(tmp_path, failing))
    written = tmp_path / "logs" / "a.stderr.log"
    until(lambda: written.exists() and written.read_text().count("no settings") >= 2)
    # After the first end one second, after the second two.
    time.sleep(1.0)
    assert written.read_text().count("no settings") == 2
    stop.set()
    thread.join(20)


def test_processes_end_when_their_host_dies(tmp_path: Path, child: list[str]) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, threading; from pathlib import Path\n"
        "from apps.operations.install.service_host import Host, Program\n"
        "import os\n"
        f"Host([Program('a', {[*child, str(out)]!r})], directory=Path({str(tmp_path)!r}),"
        f" logs=Path({str(tmp_path)!r}), environment=os.environ).run(threading.Event())"
    )
    environment = clean() | {"PYTHONPATH": os.pathsep.join([str(BASE_DIR), str(tmp_path)])}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    until(lambda: len(words(out)) == 1)
    parent.kill()
    parent.wait()
    until(lambda: words(out)[1:] == ["asked"])


# --- the service itself, with pywin32's place taken ------------------------------------------


class Framework:
    """What our class asks of pywin32's ServiceFramework."""

    def __init__(self, args: Any) -> None:
        self.reported: list[tuple[int, int]] = []

    def GetAcceptedControls(self) -> int:
        return 1

    def ReportServiceStatus(self, status: int, waitHint: int = 5000) -> None:
        self.reported.append((status, waitHint))


WIN32SERVICE = SimpleNamespace(
    SERVICE_ACCEPT_PRESHUTDOWN=0x100, SERVICE_CONTROL_PRESHUTDOWN=0xF, SERVICE_STOP_PENDING=3
)


@pytest.fixture
def pywin32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "win32service", WIN32SERVICE)
    framework = SimpleNamespace(ServiceFramework=Framework)
    monkeypatch.setitem(sys.modules, "win32serviceutil", framework)


def asked(tmp_path: Path, kind: str, env_file: Path, **changes: int) -> Namespace:
    words = [kind, "--name", f"ENS{kind.capitalize()}", "--python", sys.executable]
    words += ["--env-file", str(env_file), "--logs", str(tmp_path / "logs")]
    words += [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    return windows_service._parser().parse_args(words)


@pytest.mark.slow
@pytest.mark.usefixtures("pywin32")
def test_worker_and_beat_run_and_stop_gracefully(tmp_path: Path, deployment: Deployment) -> None:
    """Beat pokes, the worker takes the pokes away, and neither has to be ended by force."""
    made = [
        windows_service.service_class(asked(tmp_path, kind, Path(deployment.place.env_file)))(["x"])
        for kind in ("beat", "worker")
    ]
    beat, worker = threads = [threading.Thread(target=one.SvcDoRun) for one in made]
    messages = Path(deployment.place.data) / "broker" / "messages"
    beat.start()
    until(lambda: len(list(messages.glob("*.msg"))) >= 3, 60)
    worker.start()
    until(lambda: len(list(messages.glob("*.msg"))) <= 1, 60)
    began = time.monotonic()
    # Beat by a stop, the worker because the server shuts down.
    made[0].SvcStop()
    assert made[1].GetAcceptedControls() == 0x101
    made[1].SvcOtherEx(WIN32SERVICE.SERVICE_CONTROL_PRESHUTDOWN, 0, None)
    assert [one.reported for one in made] == [[(3, 40_000)]] * 2
    for thread in threads:
        thread.join(35)
        assert not thread.is_alive()
    assert time.monotonic() - began < 29  # the grace is 30


def test_each_worker_process_has_a_name_of_its_own(tmp_path: Path) -> None:
    made = windows_service.programs(asked(tmp_path, "worker", tmp_path, processes=2, threads=8))
    first, second = ([*one.argv] for one in made)
    assert first[3:] == [
        *("celery", "-A", "ens_project", "worker", "-P", "threads", "-c", "8"),
        *("-Q", "drain,join,housekeeping", "-l", "WARNING", "-n", "ensworker1@%h"),
    ]
    assert second[-1] == "ensworker2@%h"
    assert [one.name for one in made] == ["ENSWorker-1", "ENSWorker-2"]


def test_the_processes_know_their_settings_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENS_SECRET_KEY", "another one's")
    found = windows_service.environment(asked(tmp_path, "beat", tmp_path / "ens.env"))
    ours = {name: value for name, value in found.items() if name.startswith("ENS_")}
    logs = str(tmp_path / "logs")
    assert ours == {"ENS_ENV_FILE": str(tmp_path / "ens.env"), "ENS_LOG_DIR": logs}
