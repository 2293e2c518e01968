"""Several real processes of one deployment on a database of their own (a SQLite file)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ens_project.env import BASE_DIR
from tests.environment import MASTER_KEY_FILE

SETUP = "import django; django.setup()\n"


def start(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start Python with these arguments and the settings of a deployment that lives in `folder`."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "ens_project.settings",
        "ENS_DATA_DIR": str(folder),
        "ENS_DATABASE_URL": f"sqlite:///{folder / 'ens.sqlite3'}",
        "ENS_MASTER_KEY_FILE": str(MASTER_KEY_FILE),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=BASE_DIR,
        env=environment | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str, **settings: str) -> str:
    """Run to the end, which must be a good one; returns what was printed."""
    process = start(folder, *arguments, **settings)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def run_at_once(folder: Path, program: str, count: int) -> list[str]:
    """Run `program` in processes that begin it at the same instant; returns what each printed."""
    code = f"{SETUP}print('ready', flush=True); input()\n{program}"
    processes = [start(folder, "-c", code) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = []
        for process in processes:
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            outputs.append(output.strip())
        return outputs
    finally:
        for process in processes:
            process.kill()
            process.wait()


def migrate(folder: Path) -> None:
    """Make the database of the deployment in `folder`."""
    run(folder, "manage.py", "migrate", "--skip-checks", "--verbosity", "0")
