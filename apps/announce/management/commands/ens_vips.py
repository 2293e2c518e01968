"""Names an organization group's VIPs, whose addresses are stored nowhere."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.announce.policy import ContentPolicy, VipHmac, vip_hmac
from apps.tenants.groups import GroupRefused, find_group
from apps.tenants.inherited import override, settings_for


class Command(BaseCommand):
    """Only HMACs are kept, so the list can be changed and not read."""

    help = "Add or remove senders whose mail may always ring in an organization group."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["add", "remove"])
        parser.add_argument("address", nargs="+", help="SMTP addresses of senders")
        parser.add_argument("--og", required=True, help="name or GUID of the organization group")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            og = find_group(options["og"])
        except GroupRefused as error:
            raise CommandError(str(error)) from None
        if not all("@" in address for address in options["address"]):
            raise CommandError("not an address")
        named = {VipHmac(vip_hmac(address)) for address in options["address"]}
        kept = set(settings_for(og, ContentPolicy).vips)
        kept = kept | named if options["action"] == "add" else kept - named
        override(og, ContentPolicy, vips=tuple(sorted(kept)))
        self.stdout.write(f"{len(kept)} VIPs")
