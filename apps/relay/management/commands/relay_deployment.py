"""`manage.py relay_deployment`: which deployments may call this relay."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps import revocations
from apps.relay.models import Deployment
from apps.relay.signature import CertificateUnusable, read_certificate


class Command(BaseCommand):
    """Registers, lists and revokes secure channel certificates; effective with the next call."""

    help = "Register, list or revoke the deployments that may call this relay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Three actions, each with its own options."""
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="register a deployment")
        add.add_argument("--name", required=True, help="what to call it, up to 100 characters")
        add.add_argument(
            "--certificate",
            required=True,
            type=Path,
            help="its secure channel certificate in PEM (what cns_certificate printed)",
        )
        actions.add_parser("list", help="list all deployments")
        revoke = actions.add_parser("revoke", help="refuse a deployment from now on")
        revoke.add_argument("--name", required=True)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do one action; raises CommandError with one clear line."""
        if options["action"] == "add":
            self._add(options["name"], options["certificate"])
        elif options["action"] == "revoke":
            self._revoke(options["name"])
        else:
            self._list()

    def _add(self, name: str, file: Path) -> None:
        try:
            certificate = read_certificate(file.read_bytes())
        except OSError as error:
            raise CommandError(f"{file} can't be read ({type(error).__name__})") from None
        except CertificateUnusable as error:
            raise CommandError(f"{file}: {error}") from None
        if not 0 < len(name) <= 100:
            raise CommandError("a name has 1 to 100 characters")
        if Deployment.objects.filter(name=name).exists():
            raise CommandError(f"there is a deployment {name!r} already, revoked or not")
        if Deployment.objects.filter(thumbprint=certificate.thumbprint).exists():
            raise CommandError("this certificate is registered already, revoked or not")
        Deployment.objects.create(
            name=name, thumbprint=certificate.thumbprint, certificate=certificate.pem
        )
        self.stdout.write(f"{name} may call this relay. Thumbprint: {certificate.thumbprint}")

    def _revoke(self, name: str) -> None:
        found = Deployment.objects.filter(name=name, revoked_at=None)
        thumbprints = list(found.values_list("thumbprint", flat=True))
        if not found.update(revoked_at=timezone.now()):
            raise CommandError(f"there is no deployment {name!r} that isn't revoked")
        for thumbprint in thumbprints:
            revocations.note("relay_deployment", thumbprint=thumbprint)
        self.stdout.write(f"{name} is refused from now on.")

    def _list(self) -> None:
        for each in Deployment.objects.order_by("name").prefetch_related("push_apps"):
            state = f"revoked {each.revoked_at:%Y-%m-%d}" if each.revoked_at else "active"
            apps = ", ".join(sorted(str(app) for app in each.push_apps.all())) or "no apps"
            self.stdout.write(f"{each.name}  {each.thumbprint}  {state}  {apps}")
