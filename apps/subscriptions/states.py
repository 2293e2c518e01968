"""A subscription's states and the moves between them; nothing else writes `state`.

A move is one conditional UPDATE: of two that meet, one happens. What follows from it (waking the
phones of a mailbox that is not served any more) follows from here, so that no caller forgets it.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from apps import clock
from apps.history import stories
from apps.subscriptions import wakeups
from apps.subscriptions.models import Subscription, SubscriptionState

_S = SubscriptionState
MOVES: Final[dict[SubscriptionState, frozenset[SubscriptionState]]] = {
    _S.PENDING: frozenset({_S.ACTIVE, _S.LOST, _S.ENDED}),
    _S.ACTIVE: frozenset({_S.SUSPECT, _S.LOST, _S.ENDED}),
    # Other credentials make another subscription: nothing leads back from here.
    _S.SUSPECT: frozenset({_S.LOST, _S.ENDED}),
    # Exchange calls after all: it was only late.
    _S.LOST: frozenset({_S.ACTIVE, _S.ENDED}),
    _S.ENDED: frozenset(),
}


def move(subscription_id: uuid.UUID, to: SubscriptionState, reason: str = "", **also: Any) -> bool:
    """Change a subscription's state, and other columns with it, if that move is allowed."""
    origins = [state for state, targets in MOVES.items() if to in targets]
    moved = bool(
        Subscription.objects.filter(id=subscription_id, state__in=origins).update(
            state=to, reason=reason, state_at=clock.now(), **also
        )
    )
    if not moved:
        return False
    owner = Subscription.objects.filter(id=subscription_id).values_list("owner_id", flat=True)
    for device_id in owner:
        if device_id is not None:
            stories.record(device_id, "subscription", to=str(to), reason=reason)
    if to in (SubscriptionState.SUSPECT, SubscriptionState.LOST):
        wakeups.wake_mailbox(subscription_id, reason)
    return True
