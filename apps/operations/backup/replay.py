"""Replaying the list of blocks and revocations (apps/revocations.py) onto an older database.

A relay alone has no devices: what concerns them is imported where it is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, get_args

from django.apps import apps
from django.utils import timezone

from apps.revocations import Entry

if TYPE_CHECKING:
    from apps.devices.blocks import Name

# Servers' clocks differ, and an entry is written after its commit; all can be replayed twice.
_BEFORE: Final = timedelta(minutes=10)


def replay(entries: Iterable[Entry], since: datetime | None) -> Counter[str]:
    """Do again, in their order, what was blocked and revoked since a backup was made.

    `since` None: all of them. Returns how many were done by kind; `unknown` counts those that mean
    nothing here (a token or a group that came after the backup, or is another deployment's).
    """
    done: Counter[str] = Counter()
    for entry in sorted(entries, key=lambda each: each.at):
        if since is None or entry.at >= since - _BEFORE:
            did = _DOES[entry.what](entry)
            done[entry.what if did else "unknown"] += 1
    return done


def _block(entry: Entry) -> bool:
    from apps.devices import blocks, registry
    from apps.devices.models import DeviceState
    from apps.subscriptions import wakeups

    facts = entry.facts
    scope, names = facts["scope"], _names(facts)
    if not names or not _is_group(scope):
        return False
    blocks.add(scope, names, reason=facts["reason"][:40])
    for device in list(blocks.devices_named(scope, names)):
        if registry.move(device.id, DeviceState.BLOCKED, facts["reason"][:40]):
            registry.disarm(device.id)
        wakeups.answered(device.id)
    return True


def _unblock(entry: Entry) -> bool:
    from apps.devices import blocks, registry
    from apps.devices.models import DeviceState

    facts = entry.facts
    scope, names = facts["scope"], _names(facts)
    if not names or not _is_group(scope):
        return False
    blocks.lift(scope, names)
    held = blocks.devices_named(scope, names).filter(state=DeviceState.BLOCKED)
    for device in list(held.select_related("og")):
        if not blocks.listed(device.og, blocks.names_of(device)):
            registry.unblock(device.id)
    return True


def _forget(entry: Entry) -> bool:
    """Whoever came back after that is not meant."""
    from apps.devices.models import Mailbox
    from apps.operations import persons

    user, system = entry.facts["user"], entry.facts["mail_system"]
    if not (system.isascii() and system.isdigit() and len(system) < 19):
        return False
    rows = Mailbox.objects.filter(user_hmac=user, mail_system_id=int(system))
    found = list(rows.filter(created_at__lt=entry.at))
    persons.forget_mailboxes(found)
    return bool(found)


def _is_group(scope: str) -> bool:
    from apps.tenants.models import OrganizationGroup

    return bool(OrganizationGroup.objects.filter(path=scope).exists())


def _names(facts: dict[str, str]) -> list[Name]:
    from apps.devices.blocks import Kind

    for kind in get_args(Kind):
        if facts["kind"] == kind and len(facts["value"]) == 64:
            return [(kind, facts["value"])]
    return []


def _revoke(label: str, column: str, fact: str) -> Callable[[Entry], bool]:
    def revoke(entry: Entry) -> bool:
        if not apps.is_installed(f"apps.{label.partition('.')[0]}"):
            return False
        rows = apps.get_model(label)._default_manager.filter(**{column: entry.facts[fact]})
        rows.filter(revoked_at=None).update(revoked_at=timezone.now())
        return bool(rows.exists())

    return revoke


_DOES: Final[dict[str, Callable[[Entry], bool]]] = {
    "block": _block,
    "unblock": _unblock,
    "forget": _forget,
    "api_token": _revoke("tenants.ApiToken", "token_hash", "hash"),
    "admin_token": _revoke("administrators.AdminApiToken", "token_hash", "hash"),
    "secure_channel": _revoke("cns.SecureChannelKey", "thumbprint", "thumbprint"),
    "relay_deployment": _revoke("relay.Deployment", "thumbprint", "thumbprint"),
}
