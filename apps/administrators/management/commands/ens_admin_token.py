"""Makes, lists and revokes tokens of the admin API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.administrators import api_tokens
from apps.administrators.models import AdminApiToken, Administrator
from apps.audit.service import command_line, record
from apps.tenants.groups import GroupRefused, find_group


class Command(BaseCommand):
    """`ens_admin_token create` prints the token alone, the only time it can be seen."""

    help = "Make, list and revoke tokens of the admin API."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a token and print it, the only time")
        create.add_argument("--owner", required=True, help="user name of the administrator")
        create.add_argument("--label", required=True, help="what the token is for")
        create.add_argument("--og", help="only in this organization group and below: name or GUID")
        create.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=api_tokens.SCOPES,
            help="what it may do; several times",
        )
        create.add_argument("--days", type=int, default=365, help="valid so many days: 365")
        actions.add_parser("list", help="a line per token: id, owner, label, expires, last used")
        revoke = actions.add_parser("revoke", help="revoke a token")
        revoke.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "create":
            self.stdout.write(self._create(options))
        elif options["action"] == "revoke":
            self._revoke(options["id"])
        else:
            self._list()

    def _create(self, options: dict[str, Any]) -> str:
        try:
            owner = Administrator.objects.get_by_natural_key(options["owner"])
            og = find_group(options["og"]) if options["og"] else None
            if not 1 <= options["days"] <= 3650:
                raise CommandError("--days: 1 to 3650")
            expires_at = timezone.now() + timedelta(days=options["days"])
            row, token = api_tokens.issue(owner, og, options["label"], options["scope"], expires_at)
        except Administrator.DoesNotExist:
            raise CommandError("there is no such administrator") from None
        except (GroupRefused, api_tokens.TokenRefused) as error:
            raise CommandError(str(error)) from None
        _record("admin_token.create", row, {"scopes": row.scopes})
        return token

    def _revoke(self, pk: int) -> None:
        row = AdminApiToken.objects.select_related("og").filter(pk=pk).first()
        if row is None or not api_tokens.revoke(row):
            raise CommandError("there is no valid token with this id")
        _record("admin_token.revoke", row, None)

    def _list(self) -> None:
        for row in AdminApiToken.objects.select_related("owner"):
            times = (row.expires_at, row.last_used_at)
            stamps = [at.isoformat(timespec="seconds") if at else "-" for at in times]
            state = "revoked" if row.revoked_at else "valid"
            columns = (str(row.pk), row.owner.username, row.label, *stamps, state)
            self.stdout.write("\t".join(columns))


def _record(action: str, row: AdminApiToken, after: dict[str, Any] | None) -> None:
    record(
        actor=command_line(),
        action=action,
        target=f"admin API token {row.label}",
        og_path=row.og.path if row.og else "",
        before=None,
        after=after,
    )
