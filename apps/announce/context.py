"""What the drain must know of a mailbox, read from the database for many mailboxes at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from apps import clock
from apps.announce import payload
from apps.devices import registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.eventlog.interface import Entry
from apps.exchange.interface import Credentials, Endpoint
from apps.subscriptions import refusals, webhook_url
from apps.subscriptions.entries import MailWork
from apps.subscriptions.joining import endpoint_of, open_many
from apps.subscriptions.models import SUPERSEDED, Subscription, SubscriptionState
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants.inherited import settings_for
from apps.vault.lookup import lookup_hmac


@dataclass(frozen=True, slots=True)
class Target:
    """A device to push to, and how much it may be told."""

    device_id: uuid.UUID
    app: str
    token: str = field(repr=False)
    level: str


@dataclass(frozen=True, slots=True)
class Context:
    """One subscription with its mailbox and the devices that may hear of it."""

    subscription: Subscription
    mailbox: Mailbox
    endpoint: Endpoint
    # None: they did not open, or were shredded.
    credentials: Credentials | None = field(repr=False)
    # Exchange has refused these credentials: one more try might lock the account.
    refused: bool
    works: tuple[MailWork, ...] = field(repr=False)
    targets: tuple[Target, ...]

    @property
    def replaced(self) -> bool:
        """Whether another subscription reports what this one does, and may fetch it too."""
        return (
            self.subscription.state == SubscriptionState.ENDED
            and self.subscription.reason != SUPERSEDED
            and self.mailbox.current_subscription is not None
        )

    @property
    def may_fetch(self) -> bool:
        """Whether the subscription's credentials may be used at Exchange."""
        state = self.subscription.state
        return not self.refused and (
            state in (SubscriptionState.ACTIVE, SubscriptionState.PENDING)
            # What a superseded one reported before Exchange was told is drained to the end.
            or (state == SubscriptionState.ENDED and self.subscription.reason == SUPERSEDED)
        )


def load(entries: Sequence[Entry]) -> dict[str, Context]:
    """The contexts of these entries' subscriptions; those that are no more are left out.

    Whatever the jobs need of the vault later is in memory after this: they run in the event loop,
    which must not wait for a database.
    """
    lookup_hmac("warm-up", "")
    works: dict[uuid.UUID, list[MailWork]] = {}
    for entry in entries:
        subscription_id = webhook_url.id_of(entry.partition)
        works.setdefault(subscription_id, []).append(MailWork.from_bytes(entry.payload))
    rows = Subscription.objects.select_related("mailbox__mail_system").filter(id__in=list(works))
    subscriptions = list(rows)
    devices: dict[int, list[Device]] = {}
    told = Device.objects.select_related("og").filter(
        mailbox_id__in={row.mailbox_id for row in subscriptions}, state=DeviceState.ACTIVE
    )
    for device in told:
        devices.setdefault(device.mailbox_id, []).append(device)
    credentials = _open(works)
    refused = refusals.known_among(
        (row.mailbox, credentials[row.id]) for row in subscriptions if row.id in credentials
    )
    proof_lasts = _proof_lasts(told)
    return {
        webhook_url.name_of(row.id): Context(
            subscription=row,
            mailbox=row.mailbox,
            endpoint=endpoint_of(row.mailbox, row.ews_url),
            credentials=credentials.get(row.id),
            refused=(row.mailbox_id, credentials.get(row.id)) in refused,
            works=tuple(works[row.id]),
            targets=tuple(
                _target(device, proof_lasts[device.og_id])
                for device in devices.get(row.mailbox_id, ())
            ),
        )
        for row in subscriptions
    }


def _open(works: Mapping[uuid.UUID, Sequence[MailWork]]) -> dict[uuid.UUID, Credentials]:
    """Each subscription's credentials as its newest entry that opens carries them."""
    newest = {subscription_id: batch[-1].creds for subscription_id, batch in works.items()}
    opened = open_many(newest)
    for subscription_id, batch in works.items():
        for creds in {work.creds for work in batch} - {newest[subscription_id]}:
            if subscription_id not in opened:
                opened |= open_many({subscription_id: creds})
    return opened


def _proof_lasts(devices: Iterable[Device]) -> dict[int, timedelta]:
    """How long a proof entitles to content, by organization group."""
    groups = {device.og_id: device.og for device in devices}
    return {
        og_id: timedelta(hours=settings_for(og, SubscriptionSettings).proof_hours)
        for og_id, og in groups.items()
    }


def _target(device: Device, proof_lasts: timedelta) -> Target:
    """How a device that was let in is reached, and how much it may hear now.

    Content needs the device's own recent proof. One that must prove itself anew, because a
    password was refused, hears of new mail all the same: until its next check-in it can't know.
    """
    level = device.content_wish or payload.LEVELS[-1]
    proved = device.proved_at is not None and device.proved_at >= clock.now() - proof_lasts
    if not proved and level != "none":
        level = "generic"
    return Target(
        device_id=device.id, app=device.app_id, token=registry.push_token(device), level=level
    )
