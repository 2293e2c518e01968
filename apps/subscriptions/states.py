"""A subscription's states and the moves between them; nothing else writes `state`.

A move is one conditional UPDATE: of two that meet, one happens. What follows from it (waking the
phones of a mailbox that is not served any more) follows from here, so that no caller forgets it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import Case, DateTimeField, Value, When

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


# SQL Server takes 2,100 parameters in a statement; a row has up to four here.
_ROWS_A_STATEMENT: Final = 400


def move(subscription_id: uuid.UUID, to: SubscriptionState, reason: str = "", **also: Any) -> bool:
    """Change a subscription's state, and other columns with it, if that move is allowed."""
    moved = bool(
        Subscription.objects.filter(id=subscription_id, state__in=_origins(to)).update(
            state=to, reason=reason, state_at=clock.now(), **also
        )
    )
    if moved:
        owner = Subscription.objects.filter(id=subscription_id).values_list("owner_id", flat=True)
        _follow(dict.fromkeys([subscription_id], owner.first()), to, reason)
    return moved


def move_many(
    silent_since: Mapping[uuid.UUID, datetime | None], to: SubscriptionState, reason: str = ""
) -> int:
    """The same for many, each with its own `silent_since`; returns how many were moved.

    A handful of queries for every 400.
    """
    every = sorted(silent_since)
    pages = range(0, len(every), _ROWS_A_STATEMENT)
    return sum(
        _move_page(every[first : first + _ROWS_A_STATEMENT], silent_since, to, reason)
        for first in pages
    )


def _move_page(
    page: Sequence[uuid.UUID],
    silent_since: Mapping[uuid.UUID, datetime | None],
    to: SubscriptionState,
    reason: str,
) -> int:
    rows = Subscription.objects.filter(id__in=page, state__in=_origins(to)).order_by("id")
    with transaction.atomic():
        # Locked between look and change, so that of two that meet one moves each.
        owners = dict(rows.select_for_update().values_list("id", "owner_id"))
        if not owners:
            return 0
        since: Case | None = None
        # A CASE of nothing but NULL would be a text to PostgreSQL, which it refuses.
        if any(silent_since[row] for row in owners):
            since = Case(
                *(When(id=row, then=Value(silent_since[row])) for row in owners),
                output_field=DateTimeField(),
            )
        Subscription.objects.filter(id__in=list(owners)).update(
            state=to, reason=reason, state_at=clock.now(), silent_since=since
        )
        _follow(owners, to, reason)
    return len(owners)


def _origins(to: SubscriptionState) -> list[SubscriptionState]:
    return [state for state, targets in MOVES.items() if to in targets]


def _follow(
    owners: Mapping[uuid.UUID, uuid.UUID | None], to: SubscriptionState, reason: str
) -> None:
    """What every move brings: a line in the owner's story; and phones are woken where needed."""
    for device_id in owners.values():
        if device_id is not None:
            stories.record(device_id, "subscription", to=str(to), reason=reason)
    if to in (SubscriptionState.SUSPECT, SubscriptionState.LOST):
        wakeups.wake_mailboxes(list(owners), reason)
