"""Make and list organization groups."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tenants.groups import GroupRefused, create_group, find_group
from apps.tenants.models import OrganizationGroup


class Command(BaseCommand):
    """`ens_og create <name> [--parent <name or GUID>]` prints the GUID; `ens_og list` the tree."""

    help = "Make and list organization groups."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a group and print its GUID")
        create.add_argument("name")
        create.add_argument("--parent", help="name or GUID of the group above; default: a root")
        actions.add_parser("list", help="print a line per group: GUID, depth, name, by tabs")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for og in OrganizationGroup.objects.get_tree():
                self.stdout.write(f"{og.guid}\t{og.depth}\t{og.name}")
            return
        try:
            parent = find_group(options["parent"]) if options["parent"] else None
            og = create_group(options["name"], parent)
        except GroupRefused as error:
            raise CommandError(str(error)) from None
        self.stdout.write(str(og.guid))
