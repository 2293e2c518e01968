"""What the webhook must know of a subscription, at the price of a dictionary look-up.

A subscription's row is read once per process: Exchange's id for it never changes once it is known.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from threading import Lock
from typing import Final

from django.db.models import Q

from apps.subscriptions.models import SUPERSEDED, Subscription, SubscriptionState

_CAPACITY: Final = 200_000
_known: OrderedDict[uuid.UUID, str] = OrderedDict()
_lock = Lock()


def foreign_hmac(subscription_id: uuid.UUID) -> str | None:
    """The HMAC of Exchange's SubscriptionId; empty while unknown; None when it is over for us.

    A superseded subscription is known still: what it reports is taken until Exchange has been
    told.
    """
    with _lock:
        if subscription_id in _known:
            _known.move_to_end(subscription_id)
            return _known[subscription_id]
    row = (
        Subscription.objects.filter(id=subscription_id)
        .exclude(~Q(reason=SUPERSEDED), state=SubscriptionState.ENDED)
        .values_list("foreign_hmac", flat=True)
        .first()
    )
    if row:
        with _lock:
            _known[subscription_id] = row
            if len(_known) > _CAPACITY:
                _known.popitem(last=False)
    return row
