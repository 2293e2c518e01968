"""The Windows service: what `sc.exe` was told to start (`services.command_line`).

Run by the interpreter that the virtual environment was made from, isolated from where it stands; so
it first finds ENS's libraries, pywin32 among them, and ENS itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import site
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
_STOP_HINT_MS = 40_000


def main(arguments: Sequence[str]) -> None:
    """Hand this process to Windows, which calls back with start and stop."""
    asked = _parser().parse_args(arguments)
    site.addsitedir(str(Path(asked.python).parent.parent / "Lib" / "site-packages"))
    sys.path.insert(0, str(ROOT))
    servicemanager: Any = importlib.import_module("servicemanager")
    servicemanager.Initialize(asked.name, None)
    servicemanager.PrepareToHostSingle(service_class(asked))
    servicemanager.StartServiceCtrlDispatcher()


def service_class(asked: argparse.Namespace) -> type:
    """The class that pywin32 makes an object of when Windows starts the service."""
    win32service: Any = importlib.import_module("win32service")
    win32serviceutil: Any = importlib.import_module("win32serviceutil")
    from apps.operations.install.service_host import Host, mark_file, settings_mark

    class EnsService(win32serviceutil.ServiceFramework):
        _svc_name_ = asked.name
        _svc_display_name_ = asked.name

        def __init__(self, args: Sequence[str]) -> None:
            super().__init__(args)
            self._stop = threading.Event()

        def GetAcceptedControls(self) -> int:
            # Told before the server shuts down, when there is still time to finish.
            accepted: int = super().GetAcceptedControls()
            return accepted | int(win32service.SERVICE_ACCEPT_PRESHUTDOWN)

        def SvcOtherEx(self, control: int, _event: int, _data: Any) -> None:
            if control == win32service.SERVICE_CONTROL_PRESHUTDOWN:
                self.SvcStop()

        def SvcStop(self) -> None:
            self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, _STOP_HINT_MS)
            self._stop.set()

        def SvcDoRun(self) -> None:
            logs = Path(asked.logs)
            logs.mkdir(parents=True, exist_ok=True)
            mark_file(logs, asked.name).write_text(settings_mark(Path(asked.env_file)), "utf-8")
            host = Host(programs(asked), directory=ROOT, logs=logs, environment=environment(asked))
            host.run(self._stop)

    return EnsService


def programs(asked: argparse.Namespace) -> list[Any]:
    """The Celery processes of this service."""
    from apps.operations.install.service_host import Program

    celery = (asked.python, "-m", "apps.operations.install.until_eof", "celery")
    app = ("-A", "ens_project")
    if asked.kind == "beat":
        beat = (*celery, *app, "beat", "--pidfile=", "-l", "WARNING")
        return [Program(asked.name, beat)]
    queues = ("-Q", "drain,join,housekeeping", "-l", "WARNING")
    return [
        Program(
            f"{asked.name}-{number}",
            (
                *(*celery, *app, "worker", "-P", "threads", "-c", str(asked.threads), *queues),
                *("-n", f"{asked.name.lower()}{number}@%h"),
            ),
        )
        for number in range(1, asked.processes + 1)
    ]


def environment(asked: argparse.Namespace) -> dict[str, str]:
    """Windows' own environment, and what says where ENS's settings and logs are."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
    own = {"ENS_ENV_FILE": asked.env_file, "ENS_LOG_DIR": asked.logs, "PYTHONUTF8": "1"}
    return plain | own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A Windows service of ENS; started by Windows.")
    parser.add_argument("kind", choices=["worker", "beat"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--env-file", required=True)
    parser.add_argument("--logs", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=4)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
