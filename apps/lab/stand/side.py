"""One installation of ENS in a directory of its own, set up as an operator would: `ens.env` first.

A stand has two: the deployment itself, and the relay, which in life stands elsewhere and shares
neither database nor keys with it.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.lab.stand import commands
from apps.lab.stand.child import Program
from apps.lab.stand.ports import HOST

ROOT = Path(__file__).resolve().parents[3]


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of ENS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


class Side:
    """An installation with its settings file, master key and database in `directory`."""

    def __init__(
        self, directory: Path, logs: Path, values: Mapping[str, str], root: Path = ROOT
    ) -> None:
        """Writes `ens.env` with `values` (names without `ENS_`) and what every side needs.

        `root` is where ENS's code is; change it for programs and commands of another release.
        """
        self.root = root
        directory.mkdir(parents=True)
        self.directory = directory
        self._logs = logs
        own = {
            "SECRET_KEY": secrets.token_urlsafe(40),
            "DATA_DIR": (directory / "data").as_posix(),
            "MASTER_KEY_FILE": (directory / "master.key").as_posix(),
        }
        lines = [f"ENS_{name}='{value}'" for name, value in (own | dict(values)).items()]
        env_file = directory / "ens.env"
        env_file.write_text("\n".join(lines) + "\n", "utf-8")
        env_file.chmod(0o600)
        self._environment = clean_environment() | {
            "ENS_ENV_FILE": str(env_file),
            "DJANGO_SETTINGS_MODULE": "ens_project.settings",
        }

    def manage(self, *lines: Sequence[str]) -> list[str]:
        """Run management commands in order; returns what each printed, raises CommandFailed."""
        return commands.run(lines, self._environment, self.root)

    def run(self, module: str, text: str) -> str:
        """Run a module with these settings on `text`; what it printed, or raises CommandFailed."""
        return commands.run_module(module, text, self._environment, self.root)

    def web(self, name: str, port: int) -> Program:
        """The web server of this installation, on loopback."""
        return self.program(
            name,
            [
                *("granian", "--interface", "wsgi", "ens_project.wsgi:application"),
                *("--host", HOST, "--port", str(port), "--workers", "1"),
                *("--blocking-threads", "8", "--no-ws", "--no-access-log"),
                *("--log-level", "warning", "--respawn-failed-workers"),
            ],
        )

    def celery(self, name: str, *words: str) -> Program:
        """A Celery process of this installation: `worker …`, `beat …`, `call …`."""
        return self.program(name, ["celery", "--quiet", "-A", "ens_project", *words])

    def program(self, name: str, module_and_words: Sequence[str]) -> Program:
        """`python -m <module> <words>` with the settings of this installation."""
        command = [sys.executable, "-m", *module_and_words]
        return Program(name, command, self._environment, self.root, self._logs / f"{name}.log")
