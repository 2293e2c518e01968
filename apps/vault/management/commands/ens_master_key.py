"""`manage.py ens_master_key`: make the master key file of a new deployment."""

from __future__ import annotations

import getpass
import os
import secrets
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.vault.master import KEY_BYTES


class Command(BaseCommand):
    """Writes `ENS_MASTER_KEY_FILE` with one new key and never touches an existing file."""

    help = (
        "Make the master key file (ENS_MASTER_KEY_FILE) with one new key. An existing file is "
        "never touched: without its key the database can't be read."
    )
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        path: Path = settings.ENS.master_key_file
        key_id = timezone.now().strftime("k%Y%m%d")
        key = b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
        content = (
            "# Master key of ENS. Keep a copy in a safe place: without it the database can't be "
            f"read.\n{key_id}:{key}\n"
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise CommandError(f"{path} exists already; it was not touched") from None
        except OSError as error:
            raise CommandError(f"{path} can't be made ({type(error).__name__})") from None
        with os.fdopen(descriptor, "wb") as file:
            narrowed = os.name != "nt" or _narrow_acl(path)
            file.write(content.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        self.stdout.write(f"{path} made with the key {key_id}. Keep a copy in a safe place.")
        if not narrowed:
            self.stderr.write(
                f"The access list of {path} could not be narrowed: "
                "let only the service account and administrators read it."
            )


def _narrow_acl(path: Path) -> bool:
    """Leave the file to its maker, SYSTEM and Administrators (by SID: names are translated)."""
    command = ["icacls", str(path), "/inheritance:r", "/grant:r"]
    command += [f"{getpass.getuser()}:F", "*S-1-5-18:F", "*S-1-5-32-544:F"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
