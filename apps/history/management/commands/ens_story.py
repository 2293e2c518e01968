"""Prints what happened to one device, for support."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.devices.models import Device
from apps.history.stories import story


class Command(BaseCommand):
    help = "Print the story of a device, oldest first: times in UTC, codes, numbers and ids."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("device_id", type=uuid.UUID)

    def handle(self, *args: Any, **options: Any) -> None:
        device_id: uuid.UUID = options["device_id"]
        entries = story(device_id)
        device = Device.objects.filter(id=device_id).first()
        if device is None and not entries:
            raise CommandError("no device with this id is known")
        if device is not None:
            reason = f" ({device.reason})" if device.reason else ""
            self.stdout.write(f"now: {device.state}{reason} since {device.state_at:%Y-%m-%d %H:%M}")
        for entry in entries:
            facts = "  ".join(f"{name}={value}" for name, value in entry.facts.items())
            self.stdout.write(f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.kind:<12}  {facts}".rstrip())
