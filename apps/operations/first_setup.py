"""What every deployment needs once: a root group, an administrator, an API token, its own relay.

Each is made only where there is none of its kind, so doing it again does nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from apps.administrators import accounts
from apps.administrators.models import Administrator
from apps.administrators.roles import Role
from apps.audit.service import command_line, record
from apps.operations import secure_channel
from apps.tenants.groups import create_group
from apps.tenants.models import ApiToken, OrganizationGroup
from apps.tenants.tokens import issue_token


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to call what is made. The token is left in `token_file`, for its maker alone to read."""

    group: str
    administrator: str
    token_label: str
    token_file: Path
    password: str = field(default="", repr=False)


def missing() -> list[str]:
    """What is not there yet: `tables` (and then nothing else is known), `group`, …"""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return ["tables"]
    found = {
        "group": OrganizationGroup.objects.exists(),
        "administrator": Administrator.objects.exists(),
        "token": ApiToken.objects.exists(),
        "relay": not _relay_misses_us(),
    }
    return [name for name, there in found.items() if not there]


def make(wanted: Wanted) -> list[str]:
    """Make all that is missing, or, where one thing can't be made, none; returns what was made.

    Raises:
        AccountRefused, GroupRefused, ValueError: a name or the password is refused.
        OSError: the token's file can't be written.
    """
    made = missing()
    with transaction.atomic():
        tree = OrganizationGroup.objects.order_by("path")
        og = create_group(wanted.group) if "group" in made else tree[0]
        if "administrator" in made:
            role = Role.SYSTEM_ADMINISTRATOR
            accounts.create(wanted.administrator, wanted.password, role, None)
            _record("administrator.create", wanted.administrator, {"role": role})
        if "relay" in made:
            _tell_relay(wanted.group)
        if "token" in made:
            # The file first: a token that nobody has seen is worth nothing.
            _leave(wanted.token_file, issue_token(og, wanted.token_label))
            _record("token.create", wanted.token_label, {}, og.path)
    return made


def _leave(path: Path, token: str) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _relay_misses_us() -> bool:
    if not secure_channel.relay_is_beside():
        return False
    from apps.relay.models import Deployment

    ours = secure_channel.signing()
    return ours is not None and not Deployment.objects.filter(thumbprint=ours.thumbprint).exists()


def _tell_relay(name: str) -> None:
    from apps.relay.models import Deployment

    ours = secure_channel.signing()
    if ours is not None:
        taken = Deployment.objects.filter(name=name[:100]).exists()
        Deployment.objects.create(
            name=f"{name[:64]} {ours.thumbprint[:12]}" if taken else name[:100],
            thumbprint=ours.thumbprint,
            certificate=ours.certificate,
        )


def _record(action: str, target: str, after: dict[str, str], og_path: str = "") -> None:
    record(
        actor=command_line(),
        action=action,
        target=target,
        og_path=og_path,
        before=None,
        after=after,
    )
