"""How subscriptions end. Exchange learns it when it next calls: the answer is `Unsubscribe`."""

from __future__ import annotations

import logging
import uuid
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import DEFAULT_DB_ALIAS, IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q

from apps import clock
from apps.devices import labels, registry
from apps.devices.models import Device, DeviceState, Mailbox
from apps.eventlog.factory import get_log
from apps.keypairs import sealing
from apps.subscriptions import states, wakeups
from apps.subscriptions.models import (
    SUPERSEDED,
    RefusedCredential,
    Subscription,
    SubscriptionState,
)
from apps.subscriptions.webhook_url import name_of

log = logging.getLogger(__name__)

# How long a mailbox whose owner left is still served with that owner's credentials.
HAND_OVER = timedelta(days=1)
# No entry of an ended subscription is worked on after this; then its key is destroyed.
DRAINED_AFTER = timedelta(hours=2)
# Past this a join that nobody finished is given up; the device is asked for credentials again.
JOIN_LOST_AFTER = timedelta(minutes=15)
REFUSAL_REMEMBERED = timedelta(hours=24)
ENDED_KEPT = timedelta(days=30)
# As long as somebody may ask why; a story is kept for 90 days.
REFUSED_KEPT = timedelta(days=30)
RETIRED_KEPT = timedelta(days=90)
_AT_ONCE = 500


def end(subscription_id: uuid.UUID, reason: str, *, shred_now: bool) -> bool:
    """End a subscription. What it already reported is still drained unless its key goes now.

    Returns False when it had ended before; its first reason stays.
    """
    with transaction.atomic():
        ended = states.move(subscription_id, SubscriptionState.ENDED, reason)
        Mailbox.objects.filter(current_subscription=subscription_id).update(
            current_subscription=None
        )
        if shred_now:
            sealing.shred([subscription_id])
    name = name_of(subscription_id)
    get_log().set_unwanted(name)
    get_log().forget([name])
    return ended


def supersede(subscription_id: uuid.UUID) -> None:
    """End a subscription because another one serves its mailbox.

    What it has reported is drained with its own credentials, unless these are the trouble: it
    then keeps that as its reason, so that refused ones are never tried again.
    """
    suspects = Subscription.objects.filter(id=subscription_id, state=SubscriptionState.SUSPECT)
    reason = suspects.values_list("reason", flat=True).first()
    end(subscription_id, reason or SUPERSEDED, shred_now=False)


def leave(device: Device) -> None:
    """A device goes for good: its row, its secret and whatever join it had under way.

    The mailbox's subscription, where this device owns it, serves the others for up to a day.
    """
    hand_over(device)
    device.delete()


def retire(device: Device, reason: str) -> None:
    """Forget a device that is not coming back: its push token, its secret, its credentials.

    The row stays for its story; the app, should it come back, must subscribe anew.
    """
    hand_over(device)
    if registry.move(device.id, DeviceState.RETIRED, reason):
        registry.disarm(device.id)


def hand_over(device: Device) -> None:
    """Give up what a device owns: now, or within a day where other phones need it meanwhile."""
    others = list(
        Device.objects.filter(
            mailbox_id=device.mailbox_id,
            state__in=[DeviceState.ACTIVE, DeviceState.ASLEEP, DeviceState.JOINING],
        ).exclude(id=device.id)
    )
    current = device.mailbox.current_subscription
    owned = Subscription.objects.filter(owner=device).exclude(state=SubscriptionState.ENDED)
    for subscription in owned:
        if subscription.id == current and others:
            Subscription.objects.filter(id=subscription.id).update(
                hand_over_by=clock.now() + HAND_OVER
            )
            awake = [other.id for other in others if other.state == DeviceState.ACTIVE]
            wakeups.ask(awake, "hand_over")
        else:
            end(subscription.id, "owner_left", shred_now=True)
    if current and not others:
        end(current, "owner_left", shred_now=True)


def shred(device: Device, reason: str) -> None:
    """Destroy a device's credentials now; the mailbox's other phones are asked for theirs.

    Also those of subscriptions that ended before and are still drained with them.
    """
    owned = Subscription.objects.filter(owner=device)
    served = False
    for subscription in owned.exclude(state=SubscriptionState.ENDED):
        served = served or subscription.id == device.mailbox.current_subscription
        end(subscription.id, reason, shred_now=True)
    sealing.shred(list(owned.values_list("id", flat=True)))
    if served:
        others = Device.objects.filter(mailbox_id=device.mailbox_id, state=DeviceState.ACTIVE)
        for other in others.exclude(id=device.id).values_list("id", flat=True):
            wakeups.ask([other], reason)


def housekeeping() -> None:
    """End what is overdue and destroy what nobody needs any more; repeatable at any time."""
    now = clock.now()
    _end_left_behind(now)
    overdue = Subscription.objects.filter(
        Q(hand_over_by__lt=now)
        | Q(state=SubscriptionState.PENDING, created_at__lt=now - JOIN_LOST_AFTER)
    ).exclude(state=SubscriptionState.ENDED)
    for subscription in overdue[:500]:
        reason = (
            "join_lost" if subscription.state == SubscriptionState.PENDING else "not_taken_over"
        )
        end(subscription.id, reason, shred_now=True)
    ended = Subscription.objects.filter(state=SubscriptionState.ENDED)
    in_use = Subscription.objects.exclude(
        state=SubscriptionState.ENDED, state_at__lt=now - DRAINED_AFTER
    )
    sealing.shred_all_but(in_use.values("id"))
    ended.filter(state_at__lt=now - ENDED_KEPT).delete()
    RefusedCredential.objects.filter(refused_at__lt=now - REFUSAL_REMEMBERED).delete()
    _clear_devices(now)
    labels.clear_unwanted()
    _clear_mailboxes(now)
    get_log().purge()


def _clear_devices(now: datetime) -> None:
    """Delete the rows of phones that were not let in, or are long gone.

    A phone that comes back is told `unknown_device`, and subscribes, as it would have been told to.
    """
    over = Q(state=DeviceState.REFUSED, state_at__lt=now - REFUSED_KEPT)
    over |= Q(state=DeviceState.RETIRED, state_at__lt=now - RETIRED_KEPT)
    for device in Device.objects.filter(over).select_related("mailbox")[:_AT_ONCE]:
        leave(device)


def _clear_mailboxes(now: datetime) -> None:
    """Delete mailboxes that nothing hangs on any more, or that nobody ever proved to own."""
    of_it = {"mailbox": OuterRef("pk")}
    empty = Mailbox.objects.filter(created_at__lt=now - timedelta(hours=1)).exclude(
        Exists(Device.objects.filter(**of_it))
        | Exists(Subscription.objects.filter(**of_it))
        | Exists(RefusedCredential.objects.filter(**of_it))
    )
    found = list(empty.values_list("pk", flat=True)[:_AT_ONCE])
    if not found:
        return
    # Without the ORM's cascade, which would take a device along that joined a moment ago; the
    # database refuses then, and the next time will do.
    with suppress(IntegrityError), transaction.atomic():
        empty.filter(pk__in=found)._raw_delete(DEFAULT_DB_ALIAS)


def _end_left_behind(now: datetime) -> None:
    """End what is live but not current: a worker died between making another one so and this."""
    live = [SubscriptionState.ACTIVE, SubscriptionState.SUSPECT, SubscriptionState.LOST]
    left_behind = (
        Subscription.objects.filter(state__in=live, state_at__lt=now - timedelta(minutes=5))
        .filter(mailbox__joining_subscription=None)
        .exclude(mailbox__current_subscription=F("id"))
    )
    for subscription_id in left_behind.values_list("id", flat=True)[:500]:
        supersede(subscription_id)
