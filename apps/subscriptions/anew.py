"""Letting everybody join again: after a restore, which brings no credentials, and after a leak."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet

from apps import clock
from apps.devices.models import Device, DeviceState, Mailbox
from apps.keypairs import sealing
from apps.subscriptions import wakeups
from apps.subscriptions.models import Subscription, SubscriptionState

_AT_ONCE: Final = 400


def join_again(reason: str, silent_since: datetime) -> int:
    """End all subscriptions, shred all credentials, and ask every active phone for its own.

    Nobody is told of any mail before a proof of its own; what is unread and came after
    `silent_since` is announced then. The phones are woken at the pace of their mail systems. Can be
    repeated; returns how many are asked.
    """
    now = clock.now()
    live = Subscription.objects.exclude(state=SubscriptionState.ENDED)
    for page in _pages(live):
        page.update(state=SubscriptionState.ENDED, reason=reason, state_at=now)
    sealing.shred_all_but(Subscription.objects.none().values("id"))
    for boxes in _pages(Mailbox.objects.all()):
        boxes.update(current_subscription=None, joining_subscription=None, joining_until=None)
    asked = 0
    for phones in _pages(Device.objects.filter(state=DeviceState.ACTIVE)):
        phones.filter(silent_since=None).exclude(proved_at=None).update(silent_since=silent_since)
        # Nobody has missed a check-in that we were not there to hear.
        asked += phones.update(proved_at=None, last_checkin_at=now)
        wakeups.ask(phones.values_list("pk", flat=True), reason)
    return asked


def _pages(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    after = None
    while True:
        following = rows if after is None else rows.filter(pk__gt=after)
        found = list(following.order_by("pk").values_list("pk", flat=True)[:_AT_ONCE])
        if not found:
            return
        yield rows.model._default_manager.filter(pk__in=found)
        after = found[-1]
