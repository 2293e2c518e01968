"""`manage.py ens_backup`: the whole database in one encrypted file (docs/backup.md)."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from apps import revocations
from apps.operations import files, password_key
from apps.operations.backup import write
from apps.operations.password_key import PasswordWeak
from apps.vault.master import MasterKeyInvalid


class Command(BaseCommand):
    """Can run while everything else runs: it sees the database as it is at one moment."""

    help = (
        "Write the database into one encrypted file that any supported database takes back "
        "(ens_restore). The master key, ens.env and credentials of users are not in it."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The password comes from a prompt or a file: others can see a command line."""
        parser.add_argument(
            "--to", type=Path, required=True, help="where to; an existing file is not touched"
        )
        parser.add_argument("--password-file", type=Path, help="its first line is the password")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line; then there is no file."""
        password = files.password(options["password_file"], twice=True)
        try:
            password_key.check_password(password)
        except PasswordWeak as error:
            raise CommandError(str(error)) from None
        target: Path = options["to"]
        with files.new(target) as file:
            try:
                made = write.write(file, password)
                file.flush()
                os.fsync(file.fileno())
            except BaseException as error:
                file.close()
                target.unlink()
                if isinstance(error, MasterKeyInvalid):
                    raise CommandError(str(error)) from None
                if isinstance(error, OSError):
                    reason = type(error).__name__
                    raise CommandError(f"{target} can't be written ({reason})") from None
                raise
        self._audit()
        for label, rows in made.rows.items():
            self.stdout.write(f"{label}: {rows}")
        keys = ", ".join(f"{name} ({mark})" for name, mark in made.master_keys.items())
        self.stdout.write(
            f"{target} made. It opens with its password and is of use with the master key only, "
            f"which is not in it: {keys}. Keep a copy of ENS_MASTER_KEY_FILE apart from it, and "
            f"copy {revocations.file()} of every server often: it says what is blocked from now on."
        )

    def _audit(self) -> None:
        if apps.is_installed("apps.audit"):
            from apps.audit import service as audit

            audit.record(
                actor=audit.command_line(),
                action="deployment.backup",
                target="all of the database",
                og_path="",
                before=None,
                after=None,
            )
