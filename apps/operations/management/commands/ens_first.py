"""`manage.py ens_first`: what a new deployment needs once; `ens_install --first` calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.administrators.accounts import AccountRefused
from apps.operations import first_setup
from apps.tenants.groups import GroupRefused


class Command(BaseCommand):
    """Prints a JSON list of what was made, or with `--check` of what is missing."""

    help = (
        "Make the root organization group, the first administrator and the first API token, each "
        "only where there is none. The administrator's password is the first line of standard "
        "input."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only print what is missing")
        parser.add_argument("--group", default="Company", help="name of the root group")
        parser.add_argument("--administrator", default="admin", help="the administrator's name")
        parser.add_argument("--token-label", default="mail app", help="what the token is for")
        parser.add_argument("--token-file", type=Path, help="where to leave the token")

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line; then nothing was made."""
        missing = first_setup.missing()
        if options["check"]:
            self.stdout.write(json.dumps(missing))
            return
        if "tables" in missing:
            raise CommandError("the tables are missing: run `manage.py migrate` first")
        if "token" in missing and options["token_file"] is None:
            raise CommandError("--token-file is missing: it says where to leave the token")
        password = sys.stdin.readline().rstrip("\r\n") if "administrator" in missing else ""
        wanted = first_setup.Wanted(
            group=options["group"],
            administrator=options["administrator"],
            token_label=options["token_label"],
            token_file=options["token_file"],
            password=password,
        )
        try:
            self.stdout.write(json.dumps(first_setup.make(wanted)))
        except (AccountRefused, GroupRefused, ValueError) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            reason = type(error).__name__
            raise CommandError(f"{wanted.token_file} can't be written ({reason})") from None
