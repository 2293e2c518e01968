"""Installations on databases of their own, in processes of their own, as operators have them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "Wild geese over 7 lakes"


def url_of(database: dict[str, Any]) -> str:
    """What tests/postgres.py has made, as `ENS_DATABASE_URL` names it."""
    login = f"{database['USER']}:{quote(database['PASSWORD'])}"
    return f"postgres://{login}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


class Deployment:
    """An installation in `home`, migrated and empty; SQLite unless a database URL is given.

    `like`: with the master key, and on SQLite a copy of the tables, of another one.
    """

    def __init__(
        self,
        home: Path,
        database_url: str = "",
        like: Deployment | None = None,
        roles: str = "device-api,notify,console,relay",
    ) -> None:
        home.mkdir()
        self.home = home
        self.master_key = home / "master.key"
        if like is not None:
            self.master_key.write_bytes(like.master_key.read_bytes())
            if not database_url:
                shutil.copytree(like.home / "data", home / "data")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ENS_")}
        (home / "ens.env").write_text(
            "ENS_SECRET_KEY=" + "r" * 40 + "\n"
            "ENS_LINK_ADDRESS=https://ens.example.com/MailNotificationService/api/ens\n"
            f"ENS_MASTER_KEY_FILE={self.master_key.as_posix()}\n"
            f"ENS_DATA_DIR={(home / 'data').as_posix()}\n"
            f"ENS_ROLES={roles}\nENS_RELAY_AUDIENCE=https://cns.example.com\n"
        )
        (home / "ens.env").chmod(0o600)
        (home / "password").write_text(PASSWORD + "\n")
        self.environment = kept | {
            "ENS_ENV_FILE": str(home / "ens.env"),
            "DJANGO_SETTINGS_MODULE": "ens_project.settings",
            "PYTHONUTF8": "1",
        }
        if database_url:
            self.environment["ENS_DATABASE_URL"] = database_url
        if like is None:
            self.manage("ens_master_key")
        if like is None or database_url:
            self.manage("migrate", "--verbosity", "0")

    def manage(self, *words: str) -> str:
        """Run a command; what it printed."""
        return self._run([str(ROOT / "manage.py"), *words], "")

    def inside(self, code: str, **facts: Any) -> Any:
        """Run Python lines here, with the names of filling.py; `facts` in, `answer` out."""
        return self.alone("from tests.operations.backup.filling import *\n" + code, **facts)

    def alone(self, code: str, **facts: Any) -> Any:
        """The same without the names of filling.py."""
        head = "import json, sys, django\ndjango.setup()\n"
        head += "facts, answer = json.load(sys.stdin), None\n"
        tail = "\nprint('answer:' + json.dumps(answer, default=str))\n"
        printed = self._run(["-c", head + code + tail], json.dumps(facts))
        return json.loads(printed.rpartition("answer:")[2])

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and don't wait for it."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *words],
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def _run(self, words: list[str], text: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT, env=self.environment, input=text, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
