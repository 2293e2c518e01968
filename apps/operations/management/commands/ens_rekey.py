"""`manage.py ens_rekey`: after a leak, all keys anew (docs/backup.md)."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit.service import command_line
from apps.operations import rekey
from apps.operations.device_actions import By
from apps.vault.master import MasterKeyInvalid

_FOR_PEOPLE = """\
Now, by hand, for these were sealed in the database too:
- the relay's push credentials: new keys of Apple and Google, then revoke the old ones there
- the login of each proxy (mail systems, CNS)
- the authenticator apps of administrators: ens_administrator reset NAME
- the secure channel key: in the console roll to the new one once the relay's operator has
  registered it, then revoke the old one; where ENS_CNS_KEY_FILE signs, make another file with
  cns_certificate
Start the services again."""


class Command(BaseCommand):
    """Asks first, for every phone has to bring its credentials again."""

    help = (
        "After a leak: new URL MAC, sealing, RSA and signing keys. Every phone subscribes anew, "
        "old webhook URLs are refused. Stop all services first, and replace a leaked master key "
        "before (ens_rewrap)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One option: not to be asked."""
        parser.add_argument("--yes", action="store_true", help="don't ask first")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line."""
        if not options["yes"]:
            asked = "All services are stopped, and every phone shall subscribe anew? Type yes: "
            if input(asked).strip() != "yes":
                raise CommandError("nothing was changed")
        try:
            done = rekey.rekey(By(command_line()))
        except MasterKeyInvalid as error:
            raise CommandError(str(error)) from None
        for name, count in done.items():
            self.stdout.write(f"{name}: {count}")
        self.stdout.write(_FOR_PEOPLE)
