"""List, add and remove the mail systems of an organization group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.audit.service import command_line, record, snapshot
from apps.tenants.ews_urls import EwsUrlRefused
from apps.tenants.groups import GroupRefused, find_group, plain_name
from apps.tenants.mail_systems import add_mail_system, check_ca_pem
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.tenants.ways import WayRefused


class Command(BaseCommand):
    """`ens_mail_system add|remove|list --og <name or GUID>`."""

    help = "Say which mail servers the devices of an organization group may use."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for action, does in {
            "add": "allow a mail system",
            "remove": "forget a mail system",
            "list": "print a line per mail system: name, hosts, default address, by tabs",
        }.items():
            sub = actions.add_parser(action, help=does)
            sub.add_argument("--og", required=True, help="name or GUID of the organization group")
            if action != "list":
                sub.add_argument("--name", required=True, type=plain_name)
            if action == "add":
                self._add_arguments(sub)

    @staticmethod
    def _add_arguments(sub: CommandParser) -> None:
        sub.add_argument(
            "--host",
            action="append",
            required=True,
            help="a host that may be called, as host or host:port; may be repeated",
        )
        sub.add_argument(
            "--default-ews-url", default="", help="for devices that don't know their address"
        )
        sub.add_argument("--ca-file", type=Path, help="PEM bundle of private CAs for these hosts")
        sub.add_argument(
            "--allow-private", action="store_true", help="the hosts may have private addresses"
        )
        sub.add_argument(
            "--smtp-domain",
            action="append",
            default=[],
            help="a domain whose mailboxes it has; may be repeated",
        )
        sub.add_argument(
            "--no-autodiscover", action="store_true", help="never look for EWS addresses"
        )
        sub.add_argument(
            "--tls-floor",
            choices=MailSystem.TlsFloor.values,
            default=MailSystem.TlsFloor.TLS_1_2,
            help="the oldest TLS that will do; whatever is below 1.2 is broken",
        )
        sub.add_argument(
            "--gateway", action="store_true", help="a gateway in front decides about each device"
        )
        sub.add_argument(
            "--gateway-header",
            action="append",
            default=[],
            help="how it knows a device, as 'X-Device-Id: {eas_id}'; may be repeated",
        )
        sub.add_argument(
            "--gateway-refusal",
            action="append",
            default=[],
            type=int,
            help="an HTTP status by which it refuses a device (403 if none is given)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            og = find_group(options["og"])
        except GroupRefused as error:
            raise CommandError(str(error)) from None
        if options["action"] == "list":
            for system in MailSystem.objects.filter(og=og).order_by("name"):
                self.stdout.write(
                    f"{system.name}\t{','.join(system.hosts)}\t{system.default_ews_url or '-'}"
                )
        elif options["action"] == "remove":
            if not MailSystem.objects.filter(og=og, name=options["name"]).delete()[0]:
                raise CommandError("the group has no mail system of this name")
            self.stdout.write("removed")
        else:
            self.stdout.write(self._add(og, options))

    @staticmethod
    def _add(og: OrganizationGroup, options: dict[str, Any]) -> str:
        if MailSystem.objects.filter(og=og, name=options["name"]).exists():
            raise CommandError("the group has a mail system of this name")
        try:
            with transaction.atomic():
                system = add_mail_system(
                    og,
                    options["name"],
                    options["host"],
                    default_ews_url=options["default_ews_url"],
                    ca_pem=_certificates(options["ca_file"]),
                    allow_private=options["allow_private"],
                    smtp_domains=options["smtp_domain"],
                    autodiscover=not options["no_autodiscover"],
                    tls_floor=options["tls_floor"],
                    gateway=options["gateway"],
                    gateway_headers=options["gateway_header"],
                    gateway_refusals=options["gateway_refusal"],
                )
                _audit(system)
        except EwsUrlRefused as error:
            raise CommandError(f"refused: {error.code}") from None
        except WayRefused as error:
            raise CommandError(f"the gateway is refused: {error}") from None
        return ",".join(system.hosts)


def _audit(system: MailSystem) -> None:
    record(
        actor=command_line(),
        action="mail_system.create",
        target=system.name,
        og_path=system.og.path,
        before=None,
        after=snapshot(system),
    )


def _certificates(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        pem = path.read_text("ascii")
        check_ca_pem(pem)
    except (OSError, ValueError) as error:
        raise CommandError(f"--ca-file can't be read ({type(error).__name__})") from None
    return pem
