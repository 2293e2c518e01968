"""Forgets everything about one person."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.service import command_line
from apps.operations import persons
from apps.operations.device_actions import By


class Command(BaseCommand):
    help = (
        "Forget everything about one person: devices, mailboxes, subscriptions, credentials, "
        "stories. The apps of this person must subscribe again. Audited, without the address."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="the person's SMTP address")
        parser.add_argument("--yes", action="store_true", help="don't ask first")

    def handle(self, *args: Any, **options: Any) -> None:
        address = options["address"]
        if "@" not in address:
            raise CommandError("this is no SMTP address")
        if not options["yes"] and input("Forget this person? Type yes: ").strip() != "yes":
            raise CommandError("nothing was forgotten")
        counts = persons.forget(address, By(command_line()))
        if not counts["mailboxes"]:
            self.stdout.write("nothing is held about this address")
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count}")
