"""`manage.py ens_restore`: a backup, and what was blocked since, into a new database."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from apps import revocations
from apps.operations import files
from apps.operations.backup import restore
from apps.operations.backup.replay import replay
from apps.operations.backup.sealed_file import BackupRefused
from apps.revocations import Entry
from apps.vault.master import MasterKeyInvalid

_WHY = "restored"


class Command(BaseCommand):
    """All of it or nothing. No other process of ENS may run on the database meanwhile."""

    help = (
        "Restore a backup into an empty, migrated database, of whatever kind, and replay the "
        "blocks and revocations made since. Every phone is then asked for its credentials. "
        "With --replay alone: replay onto the database as it is."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What this server itself has noted is replayed without being named."""
        parser.add_argument("--from", dest="file", type=Path, help="the backup")
        parser.add_argument("--password-file", type=Path, help="its first line is the password")
        parser.add_argument(
            "--replay",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"a {revocations.FILE_NAME} of a server; for each server one",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line; nothing is changed then."""
        if options["file"] is None and not options["replay"]:
            raise CommandError("name a backup (--from), a list to replay (--replay), or both")
        entries = self._entries(options["replay"])
        try:
            if options["file"] is None:
                with transaction.atomic():
                    done = replay(entries, None)
                    _audit({"replayed": sum(done.values())})
                self._say(done)
            else:
                self._restore(options["file"], options["password_file"], entries)
        except (BackupRefused, MasterKeyInvalid) as error:
            raise CommandError(str(error)) from None

    def _restore(self, path: Path, password_file: Path | None, entries: list[Entry]) -> None:
        try:
            file = path.open("rb")
        except OSError as error:
            raise CommandError(f"{path} can't be read ({type(error).__name__})") from None
        with file:
            backup = restore.Backup(file, files.password(password_file))
            about = backup.about
            backup.check_place()
            with transaction.atomic():
                restore.lift_time_limits()
                backup.restore()
                done = replay(entries, about.created)
                asked = _ask_everybody(about.created)
                _audit({"backup_of": about.created.isoformat(), "replayed": sum(done.values())})
        for label, rows in about.rows.items():
            self.stdout.write(f"{label}: {rows}")
        self._say(done)
        self.stdout.write(
            f"Restored as of {about.created:%Y-%m-%d %H:%M:%S} UTC, by release {about.release}. "
            f"{asked} phones are asked for their credentials once the services run. Tokens and "
            "keys that were made since are unknown; who is blocked or revoked by no list above "
            "is not."
        )

    def _entries(self, paths: list[Path]) -> list[Entry]:
        found: list[Entry] = []
        own = revocations.file()
        if own.exists() and own.resolve() not in [path.resolve() for path in paths]:
            paths = [*paths, own]
        for path in paths:
            try:
                entries, torn = revocations.read(path)
            except OSError as error:
                raise CommandError(f"{path} can't be read ({type(error).__name__})") from None
            found += entries
            self.stdout.write(f"{path}: {len(entries)} entries")
            if torn:
                self.stderr.write(f"{path}: {torn} lines are none of ours and were left out")
        return found

    def _say(self, done: Counter[str]) -> None:
        for what, count in sorted(done.items()):
            meaning = "mean nothing here" if what == "unknown" else "replayed"
            self.stdout.write(f"{what}: {count} {meaning}")


def _ask_everybody(since: datetime) -> int:
    if not apps.is_installed("apps.subscriptions"):
        return 0
    from apps.subscriptions import anew

    return anew.join_again(_WHY, since)


def _audit(after: dict[str, Any]) -> None:
    if apps.is_installed("apps.audit"):
        from apps.audit import service as audit

        audit.record(
            actor=audit.command_line(),
            action="deployment.restore",
            target="all of the database",
            og_path="",
            before=None,
            after=after,
        )
