"""Make the first administrator, list them, let one in again."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.administrators import accounts
from apps.administrators.lockout import unlock
from apps.administrators.models import Administrator
from apps.administrators.roles import Role
from apps.audit.service import command_line, record
from apps.tenants.groups import GroupRefused, find_group
from apps.tenants.models import OrganizationGroup


class Command(BaseCommand):
    """`ens_administrator create|reset|unlock|link <name>`, `ens_administrator list`.

    A password is typed, or read from a file; never given as an argument, which others could see.
    """

    help = "Make, list and let in again the console's administrators."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for action, does in {
            "create": "make an administrator; the first is a system administrator",
            "reset": "set a new password, forget the second factor, lift the lock",
            "link": "tie to an identifier (sub) of the OpenID provider; empty: to none",
            "unlock": "lift the lock after wrong passwords",
            "list": "print a line per role: name, role, group, whether active, by tabs",
        }.items():
            sub = actions.add_parser(action, help=does)
            if action != "list":
                sub.add_argument("name")
            if action in ("create", "reset"):
                sub.add_argument(
                    "--password-file", type=Path, help="file whose first line is the password"
                )
            if action == "link":
                sub.add_argument("subject")
            if action == "create":
                sub.add_argument("--role", choices=Role.values, default=Role.SYSTEM_ADMINISTRATOR)
                sub.add_argument("--og", help="name or GUID of the group; default: everywhere")
                sub.add_argument("--display-name", default="")
                sub.add_argument(
                    "--oidc", action="store_true", help="signs in at the OpenID provider; see link"
                )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except (accounts.AccountRefused, GroupRefused) as error:
            raise CommandError(str(error)) from None

    def _create(self, options: dict[str, Any]) -> None:
        og = find_group(options["og"]) if options["og"] else None
        password = None if options["oidc"] else _password(options)
        made = accounts.create(
            options["name"], password, options["role"], og, options["display_name"]
        )
        _record("administrator.create", made, og, {"role": options["role"]})
        self.stdout.write(made.username)

    def _reset(self, options: dict[str, Any]) -> None:
        found = accounts.find(options["name"])
        local = found.source == Administrator.Source.LOCAL
        accounts.reset(found, _password(options) if local else None)
        _record("administrator.reset", found, None, {})
        self.stdout.write("reset")

    def _link(self, options: dict[str, Any]) -> None:
        found = accounts.find(options["name"])
        accounts.link(found, options["subject"])
        _record("administrator.link", found, None, {"linked": bool(options["subject"])})
        self.stdout.write("linked" if options["subject"] else "not linked any more")

    def _unlock(self, options: dict[str, Any]) -> None:
        found = accounts.find(options["name"])
        unlock(found.username)
        _record("administrator.unlock", found, None, {})
        self.stdout.write("unlocked")

    def _list(self, options: dict[str, Any]) -> None:
        people = Administrator.objects.prefetch_related("assignments__og").order_by("username")
        for person in people:
            state = "active" if person.is_active else "inactive"
            for role in person.assignments.all():
                self.stdout.write(f"{person.username}\t{role.role}\t{role.og or '-'}\t{state}")


def _record(
    action: str, target: Administrator, og: OrganizationGroup | None, after: dict[str, Any]
) -> None:
    record(
        actor=command_line(),
        action=action,
        target=target.username,
        og_path=og.path if og else "",
        before=None,
        after=after,
    )


def _password(options: dict[str, Any]) -> str:
    """The password of the file, or typed twice at a terminal."""
    path = options["password_file"]
    if path is not None:
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--password-file can't be read ({type(error).__name__})") from None
        return lines[0] if lines else ""
    if not sys.stdin.isatty():
        raise CommandError("no terminal to type a password at; use --password-file")
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Once more: "):
        raise CommandError("the two are not the same")
    return first
