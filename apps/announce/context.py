"""What the drain must know of a mailbox, read from the database for many mailboxes at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from apps import clock
from apps.announce.envelope import Envelope
from apps.announce.gaps import missed_since
from apps.announce.policy import ContentPolicy, Rules, Wishes, rules
from apps.cns.client import Service
from apps.devices import registry
from apps.devices.models import PUSH_SERVICES, Device, DeviceState, Mailbox
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry
from apps.exchange.interface import Credentials, Endpoint
from apps.keypairs import signing
from apps.keypairs.signing import Signer
from apps.subscriptions import refusals
from apps.subscriptions.entries import MailWork
from apps.subscriptions.joining import open_many
from apps.subscriptions.models import SUPERSEDED, Subscription, SubscriptionState
from apps.subscriptions.settings import SubscriptionSettings
from apps.subscriptions.way import endpoint_of
from apps.subscriptions.webhook_url import id_of, name_of
from apps.tenants import mail_systems
from apps.tenants.inherited import settings_for
from apps.tenants.models import OrganizationGroup
from apps.vault.lookup import lookup_hmac

# A change of an organization's policy holds after so many seconds on every server.
_SETTINGS_FRESH_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """A device to push to, and how much it may be told."""

    device_id: uuid.UUID
    service: Service
    app: str
    token: str = field(repr=False)
    rules: Rules
    # None where the device gave no content key: it is told in clear what it may be told.
    envelope: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One subscription with its mailbox and the devices that may hear of it."""

    subscription: Subscription
    mailbox: Mailbox
    endpoint: Endpoint
    # None: they did not open, or were shredded.
    credentials: Credentials | None = field(repr=False)
    # Whether Exchange has refused these credentials (one more try might lock the account), or
    # another worker tries them just now.
    standing: refusals.Standing | None
    # An administrator has taken the host from the mail system's list since.
    unlisted: bool
    works: tuple[MailWork, ...] = field(repr=False)
    targets: tuple[Target, ...]
    # Since when something may have gone untold, and whose dead letters are replayed by that.
    missed_since: datetime | None
    dead_letters: tuple[str, ...]
    catch_up_limit: int
    loaded_at: float = field(default_factory=time.monotonic)

    @property
    def replaced(self) -> bool:
        """Whether another subscription reports what this one does, and may fetch it too."""
        return (
            self.subscription.state == SubscriptionState.ENDED
            and self.subscription.reason != SUPERSEDED
            and self.mailbox.current_subscription is not None
        )

    @property
    def refused(self) -> bool:
        """Whether Exchange has refused the subscription's credentials."""
        return self.standing == refusals.REFUSED

    @property
    def may_fetch(self) -> bool:
        """Whether the subscription's credentials may be used at Exchange."""
        state = self.subscription.state
        return not (self.refused or self.unlisted) and (
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
    tried_before: set[uuid.UUID] = set()
    for entry in entries:
        subscription_id = id_of(entry.partition)
        works.setdefault(subscription_id, []).append(MailWork.from_bytes(entry.payload))
        if entry.attempts > 1:
            tried_before.add(subscription_id)  # its watermarks have been looked at
    rows = Subscription.objects.select_related("mailbox__mail_system__og").filter(
        id__in=list(works)
    )
    subscriptions = list(rows)
    devices: dict[int, list[Device]] = {}
    told = Device.objects.select_related("og").filter(
        mailbox_id__in={row.mailbox_id for row in subscriptions}, state=DeviceState.ACTIVE
    )
    for device in told:
        devices.setdefault(device.mailbox_id, []).append(device)
    credentials = _open(works)
    standing = refusals.known_among(
        (row.mailbox, credentials[row.id]) for row in subscriptions if row.id in credentials
    )
    chosen = {
        og.pk: _in_force(og)
        for og in (
            *(device.og for device in told),
            *(row.mailbox.mail_system.og for row in subscriptions),
        )
    }
    names = [name_of(row.id) for row in subscriptions]
    marks, dead = get_log().last_marks(names), get_log().dead_since(names)
    return {
        name_of(row.id): Context(
            subscription=row,
            mailbox=row.mailbox,
            endpoint=endpoint_of(row.mailbox.mail_system, row.ews_url),
            credentials=credentials.get(row.id),
            unlisted=not mail_systems.lists(row.mailbox.mail_system, row.ews_url),
            standing=_standing(row, credentials, standing),
            works=tuple(works[row.id]),
            missed_since=_earliest(
                None
                if row.id in tried_before
                else missed_since(row, works[row.id], marks.get(name_of(row.id), "")),
                dead.get(name_of(row.id)),
            ),
            dead_letters=_dead_letters(name_of(row.id), dead, works[row.id]),
            catch_up_limit=chosen[row.mailbox.mail_system.og_id].subscriptions.catch_up_limit,
            targets=tuple(
                _target(device, chosen[device.og_id])
                for device in _audience(devices.get(row.mailbox_id, ()), works[row.id])
                if chosen[device.og_id].subscriptions.enabled
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


def _standing(
    row: Subscription,
    credentials: Mapping[uuid.UUID, Credentials],
    standing: Mapping[tuple[int, Credentials], refusals.Standing],
) -> refusals.Standing | None:
    """What is known against a subscription's credentials, if they opened."""
    return standing.get((row.mailbox_id, credentials[row.id])) if row.id in credentials else None


def _dead_letters(
    name: str, dead: Mapping[str, datetime], works: Sequence[MailWork]
) -> tuple[str, ...]:
    """The partitions whose dead letters are done with once these entries are."""
    own = {name} & dead.keys()
    return tuple(own.union(*(work.replays for work in works)))


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


@dataclass(frozen=True, slots=True)
class _InForce:
    """What holds in an organization group, as read at a moment of the monotonic clock."""

    subscriptions: SubscriptionSettings
    content: ContentPolicy
    signer: Signer | None
    read_at: float = field(default_factory=time.monotonic)


_kept: dict[int, _InForce] = {}


def _in_force(og: OrganizationGroup) -> _InForce:
    """The group's settings and signing key; read again every few seconds, not for every mail."""
    found = _kept.get(og.pk)
    if found is None or time.monotonic() - found.read_at > _SETTINGS_FRESH_S:
        found = _InForce(
            settings_for(og, SubscriptionSettings),
            settings_for(og, ContentPolicy),
            signing.current(og),
        )
        _kept[og.pk] = found
    return found


def forget() -> None:
    """Read settings anew when next needed (the database may have been flushed)."""
    _kept.clear()


def _audience(devices: Iterable[Device], works: Sequence[MailWork]) -> list[Device]:
    """Those of a mailbox' devices that these entries are for.

    Not those that must prove themselves anew since a refusal: they are silent, and told after it.
    """
    only = {work.device for work in works}
    return [
        device
        for device in devices
        if device.proved_at is not None and ("" in only or str(device.id) in only)
    ]


def _target(device: Device, chosen: _InForce) -> Target:
    """How a device that was let in is reached, and how much it may hear now.

    Content needs the device's own recent proof. One that is late with its daily proof
    hears of new mail all the same: until its next check-in it can't know.
    And what can't be encrypted, though it could be or must be, is not said.
    """
    held = rules(
        chosen.content,
        device.content_wish,
        Wishes.from_json(device.wishes),
        device.time_zone,
        clock.now(),
    )
    proof_lasts = timedelta(hours=chosen.subscriptions.proof_hours)
    proved = device.proved_at is not None and device.proved_at >= clock.now() - proof_lasts
    encrypts = bool(device.content_key) and chosen.signer is not None
    in_clear = not device.content_key and not chosen.content.require_encryption
    if held.level != "none" and not (proved and (encrypts or in_clear)):
        held = replace(held, level="generic")
    envelope = None
    if chosen.signer is not None and device.content_key:
        envelope = Envelope(device.id, device.content_key, chosen.signer)
    return Target(
        device_id=device.id,
        service=PUSH_SERVICES[device.platform],
        app=device.app_id,
        token=registry.push_token(device),
        rules=held,
        envelope=envelope,
    )
