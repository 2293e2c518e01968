"""`manage.py ens_install`: makes a deployment, or adds a server to one; says and asks, no more."""

from __future__ import annotations

import getpass
import sys
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.operations.install import answers, main
from apps.operations.install.answers import AnswersInvalid
from apps.operations.install.dialogue import Console
from apps.operations.install.runner import SystemRunner
from apps.operations.install.steps import StepFailed


class Command(BaseCommand):
    """Runs with settings of its own (manage.py): there may be no ens.env yet.

    Ends with 1 when it could not be done, and with 3 when it was done and the diagnosis failed.
    """

    help = (
        "Install ENS: --first makes a deployment, --config-xml adds this server to one. Without "
        "--answers, what options don't say is asked for at a terminal. Each run does only what is "
        "not so yet."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Every answer is an option; secrets are files."""
        parser.add_argument("--first", action="store_true", help="make a deployment")
        parser.add_argument("--answers", type=Path, help="TOML file with answers; options win")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument(
            "--unattended", action="store_true", help="ask nothing, even at a terminal"
        )
        parser.add_argument(
            "--uninstall",
            action="store_true",
            help="take ENS off this server; settings, keys and database stay",
        )
        parser.add_argument(
            "--everything",
            action="store_true",
            help="with --uninstall: remove settings, keys and data directory, too",
        )
        for name, info in answers.fields():
            option = "--" + name.replace(".", "-").replace("_", "-")
            help_text = (info.description or "").replace("%", "%%")
            if name == "settings":
                # Not by its own name: that is Django's, for another module of settings.
                parser.add_argument("--setting", action="append", help=help_text)
            elif answers.is_secret(info):
                parser.add_argument(
                    f"{option}-file", dest=f"{name}_file", help=f"{help_text}: a file's first line"
                )
            elif info.annotation is bool:
                action = BooleanOptionalAction
                parser.add_argument(option, dest=name, action=action, default=None, help=help_text)
            else:
                parser.add_argument(option, dest=name, help=help_text)

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises CommandError with one clear line; SystemExit(3) for a failed diagnosis."""
        wish = main.Wish(
            first=options["first"],
            dry_run=options["dry_run"],
            uninstall=options["uninstall"],
            everything=options["everything"],
        )
        try:
            given = _given(options)
            attended = sys.stdin.isatty() and not options["unattended"]
            if attended and options["answers"] is None and not wish.uninstall:
                given = main.ask(given, Console(input, getpass.getpass, self.stdout.write))
            well = main.install(wish, given, SystemRunner(), self.stdout.write)
        except (AnswersInvalid, StepFailed) as error:
            raise CommandError(str(error)) from None
        except (KeyboardInterrupt, EOFError):
            raise CommandError("interrupted; run it again, and it goes on from here") from None
        if not well:
            raise SystemExit(3)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What file and options say, by the answers' names; options win."""
    file: Path | None = options["answers"]
    found = answers.read_file(file) if file is not None else {}
    for name, info in answers.fields():
        key = f"{name}_file" if answers.is_secret(info) else name
        if name != "settings" and options[key] is not None:
            found[key] = options[key]
    if options["setting"]:
        pairs = dict(_pair(text) for text in options["setting"])
        found["settings"] = dict(found.get("settings", {})) | pairs
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise AnswersInvalid("--setting is NAME=VALUE")
    return name, value
