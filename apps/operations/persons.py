"""Everything about one person: shown, or forgotten. A person is known by an SMTP address only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from apps import revocations
from apps.audit import service as audit
from apps.audit.models import AuditEntry
from apps.devices.labels import label_of
from apps.devices.models import Block, Device, Mailbox
from apps.devices.registry import user_hmac
from apps.eventlog.factory import get_log
from apps.history import stories
from apps.operations.device_actions import By
from apps.subscriptions import ending
from apps.subscriptions.models import RefusedCredential, Subscription, SubscriptionState
from apps.subscriptions.webhook_url import name_of

_AUDIT_SHOWN = 1000


def held(address: str, by: By) -> dict[str, Any]:
    """What is held about a person, as JSON can say it; audited, without the address.

    HMACs, sealed values and hashes are named, not shown: nobody can read a person in them.
    """
    mailboxes = list(_mailboxes(address, by).select_related("mail_system__og"))
    found = {
        "mailboxes": [_mailbox(mailbox) for mailbox in mailboxes],
        "audit": _audit_of(mailboxes),
        "not_shown": [
            "HMACs of the address, of the Inbox' id, and of what UEM and gateway call the phones",
            "sealed push tokens and credentials, hashes of secrets",
        ],
    }
    _record(by, "person.export", mailboxes, {"mailboxes": len(mailboxes)})
    return found


def forget(address: str, by: By) -> dict[str, int]:
    """Forget a person: devices, mailboxes, subscriptions, credentials, stories; how many of each.

    The credentials' keys go first, so that nothing opens from then on. Exchange learns at its next
    call that its subscription is over. Blocks of a phone stay: they name phones, not people. The
    audit log stays: it names devices by their ids.
    """
    mailboxes = list(_mailboxes(address, by).select_related("mail_system__og"))
    counts = forget_mailboxes(mailboxes)
    _record(by, "person.forget", mailboxes, dict(counts))
    return counts


def forget_mailboxes(mailboxes: Sequence[Mailbox]) -> dict[str, int]:
    """`forget` for mailboxes at hand, without an audit entry: a restore does it again."""
    counts = {"mailboxes": len(mailboxes), "devices": 0, "subscriptions": 0}
    for mailbox in mailboxes:
        device_ids = list(mailbox.device_set.values_list("id", flat=True))
        names = _end_all(mailbox)
        with transaction.atomic():
            Block.objects.filter(device_id__in=device_ids).update(device_id=None)
            revocations.note(
                "forget", user=mailbox.user_hmac, mail_system=str(mailbox.mail_system_id)
            )
            mailbox.delete()
        get_log().forget(names)
        stories.forget(device_ids)
        counts["devices"] += len(device_ids)
        counts["subscriptions"] += len(names)
    return counts


def _end_all(mailbox: Mailbox) -> list[str]:
    """End every subscription of a mailbox and destroy its key; their names in the event log."""
    ids = list(Subscription.objects.filter(mailbox=mailbox).values_list("id", flat=True))
    for subscription_id in ids:
        ending.end(subscription_id, "forgotten", shred_now=True)
    return [name_of(subscription_id) for subscription_id in ids]


def _mailboxes(address: str, by: By) -> QuerySet[Mailbox]:
    """The person's mailboxes, in all mail systems that whoever asks looks after."""
    rows = Mailbox.objects.filter(user_hmac=user_hmac(address))
    if by.og_paths is None:
        return rows
    wanted = Q()
    for path in filter(None, by.og_paths):
        wanted |= Q(mail_system__og__path__startswith=path)
    return rows.filter(wanted) if wanted else rows.none()


def _mailbox(mailbox: Mailbox) -> dict[str, Any]:
    subscriptions = Subscription.objects.filter(mailbox=mailbox).order_by("created_at")
    refusals = RefusedCredential.objects.filter(mailbox=mailbox).order_by("refused_at")
    return {
        "organization_group": mailbox.mail_system.og.name,
        "mail_system": mailbox.mail_system.name,
        "created_at": mailbox.created_at.isoformat(),
        "devices": [_device(device) for device in mailbox.device_set.order_by("created_at")],
        "subscriptions": [
            {
                "id": str(one.id),
                "state": one.state,
                "reason": one.reason,
                "since": one.state_at.isoformat(),
                "created_at": one.created_at.isoformat(),
                "ews_url": one.ews_url,
                "credentials_held": one.state != SubscriptionState.ENDED,
            }
            for one in subscriptions
        ],
        "refused_credentials_at": [one.refused_at.isoformat() for one in refusals],
    }


def _device(device: Device) -> dict[str, Any]:
    shown = ("state", "reason", "platform", "app_id", "ews_url", "content_wish", "time_zone")
    more = ("discovered_ews_url", "model_name", "os_version", "app_version")
    times = ("state_at", "push_token_at", "proved_at", "last_checkin_at", "created_at")
    found: dict[str, Any] = {"id": str(device.id), "organization_group": device.og.name}
    found |= {name: getattr(device, name) for name in (*shown, *more)}
    for name in times:
        at = getattr(device, name)
        found[name] = at.isoformat() if at else None
    found["push_token_held"] = bool(device.push_token_sealed)
    found["content_key"] = device.content_key
    found["label"] = label_of(device)
    found["story"] = [
        {"at": entry.at.isoformat(), "kind": entry.kind, **entry.facts}
        for entry in stories.story(device.id)
    ]
    return found


def _audit_of(mailboxes: list[Mailbox]) -> list[dict[str, Any]]:
    """What administrators did with the person's devices."""
    ids = Device.objects.filter(mailbox__in=mailboxes).values_list("id", flat=True)
    targets = [f"device {device_id}" for device_id in ids]
    entries = AuditEntry.objects.filter(target__in=targets).order_by("id")[:_AUDIT_SHOWN]
    return [
        {"at": entry.at.isoformat(), "action": entry.action, "target": entry.target}
        for entry in entries
    ]


def _record(by: By, action: str, mailboxes: list[Mailbox], after: dict[str, Any]) -> None:
    """One entry a group concerned; for nobody, one for the deployment."""
    paths = {mailbox.mail_system.og.path for mailbox in mailboxes}
    for path in sorted(paths) or [(by.og_paths or ("",))[0]]:
        audit.record(
            actor=by.actor,
            action=action,
            target="a person, by address",
            og_path=path,
            before=None,
            after=after,
            address=by.address,
        )
