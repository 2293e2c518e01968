"""Issue, list and revoke API tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.tenants.groups import GroupRefused, find_group, plain_name
from apps.tenants.models import ApiToken
from apps.tenants.tokens import issue_token, revoke_token


class Command(BaseCommand):
    """`ens_token create` prints the token alone, the only time it can be seen."""

    help = "Issue, list and revoke API tokens of an organization group."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for action, does in {
            "create": "make a token and print it, the only time",
            "revoke": "revoke the tokens of a label",
            "list": "print a line per token: label, created, expires, revoked, by tabs",
        }.items():
            sub = actions.add_parser(action, help=does)
            sub.add_argument("--og", required=True, help="name or GUID of the organization group")
            if action != "list":
                sub.add_argument(
                    "--label", required=True, type=plain_name, help="what the token is for"
                )
            if action == "create":
                sub.add_argument("--days", type=int, help="valid so many days; default: for ever")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            og = find_group(options["og"])
        except GroupRefused as error:
            raise CommandError(str(error)) from None
        if options["action"] == "list":
            for token in ApiToken.objects.filter(og=og).order_by("id"):
                times = (token.created_at, token.expires_at, token.revoked_at)
                stamps = (t.isoformat(timespec="seconds") if t else "-" for t in times)
                self.stdout.write("\t".join((token.label, *stamps)))
        elif options["action"] == "revoke":
            count = revoke_token(og, options["label"])
            if not count:
                raise CommandError("the group has no valid token of this label")
            self.stdout.write(f"{count} revoked")
        else:
            self.stdout.write(self._create(og, options["label"], options["days"]))

    @staticmethod
    def _create(og: Any, label: str, days: int | None) -> str:
        longest = 36500
        if days is not None and not 1 <= days <= longest:
            raise CommandError(f"--days: 1 to {longest}")
        if ApiToken.objects.filter(og=og, label=label, revoked_at=None).exists():
            raise CommandError("the group has a token of this label; revoke it first")
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        return issue_token(og, label, expires_at)
