"""One current subscription: claims and swaps."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.utils import timezone

from apps.devices.models import Mailbox
from apps.subscriptions import current
from apps.subscriptions.models import Subscription


def test_one_joins_at_a_time_and_may_ask_again(mailbox: Mailbox) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    assert current.claim(mailbox.pk, first)
    assert current.claim(mailbox.pk, first)
    assert not current.claim(mailbox.pk, second)
    current.release(mailbox.pk, second)
    assert not current.claim(mailbox.pk, second)
    current.release(mailbox.pk, first)
    assert current.claim(mailbox.pk, second)


def test_a_claim_of_a_worker_that_died_runs_out(mailbox: Mailbox) -> None:
    assert current.claim(mailbox.pk, uuid.uuid4())
    Mailbox.objects.update(joining_until=timezone.now() - timedelta(seconds=1))
    assert current.claim(mailbox.pk, uuid.uuid4())


def test_only_who_knows_the_old_one_may_swap(mailbox: Mailbox) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    assert current.swap(mailbox.pk, None, first)
    assert not current.swap(mailbox.pk, None, second)
    assert current.swap(mailbox.pk, first, second)
    mailbox.refresh_from_db()
    assert mailbox.current_subscription == second


def test_only_an_active_one_that_stays_serves(mailbox: Mailbox) -> None:
    made = Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x/")
    assert current.serving(mailbox) is None
    current.swap(mailbox.pk, None, made.id)
    mailbox.refresh_from_db()
    assert current.serving(mailbox) == made
    for changes in ({"state": "suspect"}, {"state": "active", "hand_over_by": timezone.now()}):
        Subscription.objects.update(**changes)
        assert current.serving(mailbox) is None
