"""Prints what is held about one person, as JSON."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.service import command_line
from apps.operations import persons
from apps.operations.device_actions import By


class Command(BaseCommand):
    help = "Print what is held about one person, as JSON. Audited, without the address."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="the person's SMTP address")

    def handle(self, *args: Any, **options: Any) -> None:
        if "@" not in options["address"]:
            raise CommandError("this is no SMTP address")
        found = persons.held(options["address"], By(command_line()))
        self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False))
