"""A subscription's states: only listed moves happen, and phones are woken when one fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.subscriptions import current, states
from apps.subscriptions.models import Subscription, SubscriptionState, WakeUp


def made(mailbox: Mailbox, state: SubscriptionState = SubscriptionState.ACTIVE) -> Subscription:
    return Subscription.objects.create(mailbox=mailbox, state=state, ews_url="https://x/")


@pytest.mark.parametrize(
    ("of", "to"), list(itertools.product(SubscriptionState, SubscriptionState))
)
def test_only_listed_moves_happen(
    mailbox: Mailbox, of: SubscriptionState, to: SubscriptionState
) -> None:
    subscription = made(mailbox, of)
    before = subscription.state_at
    moved = states.move(subscription.id, to, "why")
    subscription.refresh_from_db()
    assert moved is (to in states.MOVES[of])
    assert subscription.state == (to if moved else of)
    assert subscription.reason == ("why" if moved else "")
    assert (subscription.state_at > before) is moved


@pytest.mark.parametrize("to", [SubscriptionState.SUSPECT, SubscriptionState.LOST])
def test_every_active_phone_of_a_mailbox_that_is_not_served_is_woken(
    mailbox: Mailbox, enrol: Callable[..., Device], to: SubscriptionState
) -> None:
    first, second, joining = enrol("aa" * 32), enrol("bb" * 32), enrol("cc" * 32)
    for device in (first, second):
        registry.proved(device.id, enrolment=device.secret_hash)
    subscription = made(mailbox)
    current.swap(mailbox.pk, None, subscription.id)
    states.move(subscription.id, to, "silent")
    woken = set(WakeUp.objects.values_list("device_id", flat=True))
    assert woken == {first.id, second.id}
    assert joining.id not in woken


def test_one_that_is_not_current_wakes_nobody(
    mailbox: Mailbox, enrol: Callable[..., Device]
) -> None:
    device = enrol()
    registry.proved(device.id, enrolment=device.secret_hash)
    states.move(made(mailbox).id, SubscriptionState.LOST, "silent")
    assert not WakeUp.objects.exists()


def test_many_that_are_silent_no_more_ask_nothing_that_postgresql_refuses(
    mailbox: Mailbox,
) -> None:
    """It takes a CASE of nothing but NULL for a text, and a text for no time."""
    late = [made(mailbox, SubscriptionState.LOST) for _ in range(3)]
    with CaptureQueriesContext(connection) as asked:
        moved = states.move_many(
            dict.fromkeys((one.id for one in late), None), SubscriptionState.ACTIVE
        )
    assert moved == 3
    assert not [one for one in asked.captured_queries if "CASE" in one["sql"]]
