"""Which subscription a mailbox has: one, changed by compare-and-swap.

Everything here is a single conditional UPDATE, so two workers, or a worker that died half-way and
its successor, can't both win.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db.models import Q

from apps import clock
from apps.devices.models import Mailbox
from apps.subscriptions.models import Subscription, SubscriptionState

# Longer than any Subscribe may take (join.DEADLINE_S), so that the claim outlives the call.
CLAIM = timedelta(seconds=60)


def serving(mailbox: Mailbox) -> Subscription | None:
    """The subscription that serves a mailbox now: current, active and not about to be given up.

    One whose credentials expire soon still announces, and makes way for whoever brings others.
    """
    if mailbox.current_subscription is None:
        return None
    return Subscription.objects.filter(
        Q(credentials_renew_at=None) | Q(credentials_renew_at__gt=clock.now()),
        id=mailbox.current_subscription,
        state=SubscriptionState.ACTIVE,
        hand_over_by=None,
    ).first()


def claim(mailbox_id: int, subscription_id: uuid.UUID) -> bool:
    """Ask to be the one that calls Subscribe for this mailbox now; False: another one is at it."""
    now = clock.now()
    free = (
        Q(joining_subscription=None)
        | Q(joining_subscription=subscription_id)
        | Q(joining_until__lt=now)
    )
    return bool(
        Mailbox.objects.filter(free, id=mailbox_id).update(
            joining_subscription=subscription_id, joining_until=now + CLAIM
        )
    )


def release(mailbox_id: int, subscription_id: uuid.UUID) -> None:
    """Give the claim back."""
    Mailbox.objects.filter(id=mailbox_id, joining_subscription=subscription_id).update(
        joining_subscription=None, joining_until=None
    )


def swap(mailbox_id: int, old: uuid.UUID | None, new: uuid.UUID) -> bool:
    """Make `new` the current subscription if `old` still is; false when somebody was faster."""
    return bool(
        Mailbox.objects.filter(id=mailbox_id, current_subscription=old).update(
            current_subscription=new
        )
    )
