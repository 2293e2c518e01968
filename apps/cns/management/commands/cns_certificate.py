"""`manage.py cns_certificate`: make this deployment's secure channel key and certificate."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.cns.channel import load_channel, make_channel


class Command(BaseCommand):
    """Writes `ENS_CNS_KEY_FILE` and never touches an existing file."""

    help = (
        "Make the secure channel key and certificate (ENS_CNS_KEY_FILE) and print the certificate, "
        "which the relay's operator registers with relay_deployment. An existing file is never "
        "touched."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The certificate's name is for people; the relay goes by its thumbprint."""
        parser.add_argument("--name", default="ENS", help="common name, up to 64 characters")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Make and write both; raises CommandError with one clear line."""
        path: Path | None = settings.ENS.cns_key_file
        if path is None:
            raise CommandError("ENS_CNS_KEY_FILE is missing: it says where to write the key")
        if not 0 < len(options["name"]) <= 64:
            raise CommandError("--name has 1 to 64 characters")
        key, certificate = make_channel(options["name"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise CommandError(f"{path} exists already; it was not touched") from None
        except OSError as error:
            raise CommandError(f"{path} can't be made ({type(error).__name__})") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + certificate)
        if os.name == "nt":
            self.stderr.write(f"Let only the service account and administrators read {path}.")
        self.stdout.write(certificate.decode("ascii"))
        self.stdout.write(f"Thumbprint: {load_channel(key + certificate).thumbprint}")
