"""How subscriptions end, and what housekeeping clears away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.devices.models import Device, Mailbox
from apps.eventlog.factory import get_log
from apps.exchange import errors
from apps.exchange.interface import Credentials
from apps.keypairs.models import SealedCredential
from apps.subscriptions import current, ending, joining, refusals, states
from apps.subscriptions.models import RefusedCredential, Subscription, SubscriptionState
from apps.subscriptions.webhook_url import id_of, name_of

CREDENTIALS = Credentials("basic", "anna", "secret")


@pytest.fixture
def active(enrol: Callable[..., Device], mailbox: Mailbox) -> Subscription:
    """The mailbox's current subscription, owned by its first device."""
    entry = joining.begin(enrol(), "anna@example.com", CREDENTIALS)
    made = Subscription.objects.get(id=id_of(entry.partition))
    Subscription.objects.filter(id=made.id).update(state="active")
    current.swap(mailbox.pk, None, made.id)
    made.refresh_from_db()
    return made


def sealed(subscription: Subscription) -> bool:
    return SealedCredential.objects.filter(subscription_id=subscription.id).exists()


def test_an_end_can_be_repeated_and_keeps_its_first_reason(active: Subscription) -> None:
    ending.end(active.id, "superseded", shred_now=False)
    assert sealed(active)
    ending.end(active.id, "unsubscribed", shred_now=True)
    active.refresh_from_db()
    assert (active.state, active.reason) == ("ended", "superseded")
    assert not sealed(active)
    assert Mailbox.objects.get().current_subscription is None
    assert get_log().sign_of_life(name_of(active.id)) is False


def test_a_mailbox_that_nobody_takes_over_is_given_up_after_a_day(active: Subscription) -> None:
    Subscription.objects.update(hand_over_by=timezone.now() + timedelta(minutes=1))
    ending.housekeeping()
    active.refresh_from_db()
    assert active.state == "active"
    Subscription.objects.update(hand_over_by=timezone.now() - timedelta(seconds=1))
    ending.housekeeping()
    active.refresh_from_db()
    assert (active.state, active.reason) == ("ended", "not_taken_over")
    assert not sealed(active)


def test_a_join_that_nobody_finished_is_given_up(enrol: Callable[..., Device]) -> None:
    joining.begin(enrol(), "anna@example.com", CREDENTIALS)
    ending.housekeeping()
    assert Subscription.objects.get().state == "pending"
    Subscription.objects.update(created_at=timezone.now() - ending.JOIN_LOST_AFTER)
    ending.housekeeping()
    made = Subscription.objects.get()
    assert (made.state, made.reason) == ("ended", "join_lost")
    assert not sealed(made)


def test_the_key_of_a_superseded_one_outlives_its_entries(active: Subscription) -> None:
    ending.end(active.id, "superseded", shred_now=False)
    ending.housekeeping()
    assert sealed(active)
    # However late housekeeping comes, after a week's rest too.
    Subscription.objects.update(state_at=timezone.now() - ending.DRAINED_AFTER - timedelta(days=7))
    ending.housekeeping()
    assert not sealed(active)


def test_keys_in_use_are_kept_and_those_of_nothing_go(active: Subscription) -> None:
    Subscription.objects.update(created_at=timezone.now() - timedelta(days=9))
    ending.housekeeping()
    assert sealed(active)
    Subscription.objects.all().delete()
    ending.housekeeping()
    assert not sealed(active)


def test_what_a_dead_worker_left_live_but_not_current_is_ended(
    active: Subscription, mailbox: Mailbox
) -> None:
    left = Subscription.objects.create(mailbox=mailbox, state="active", ews_url="https://x/")
    ending.housekeeping()
    left.refresh_from_db()
    assert left.state == "active"
    Subscription.objects.update(state_at=timezone.now() - timedelta(minutes=6))
    ending.housekeeping()
    left.refresh_from_db()
    active.refresh_from_db()
    assert (left.state, left.reason) == ("ended", "superseded")
    assert active.state == "active"


def test_refused_credentials_are_known_for_a_day_and_no_other(
    active: Subscription, mailbox: Mailbox
) -> None:
    refusals.remember(mailbox, CREDENTIALS)
    refusals.remember(mailbox, CREDENTIALS)
    assert RefusedCredential.objects.count() == 1
    assert refusals.known(mailbox, CREDENTIALS)
    assert not refusals.known(mailbox, Credentials("basic", "anna", "Secret"))
    RefusedCredential.objects.update(refused_at=timezone.now() - timedelta(hours=25))
    ending.housekeeping()
    assert not refusals.known(mailbox, CREDENTIALS)


def test_a_superseded_subscription_is_drained_unless_its_credentials_were_refused(
    active: Subscription,
) -> None:
    suspect = Subscription.objects.create(
        mailbox=active.mailbox, ews_url=active.ews_url, state="active"
    )
    assert states.move(suspect.id, SubscriptionState.SUSPECT, "credentials_refused")
    for subscription in (active, suspect):
        ending.supersede(subscription.id)
        subscription.refresh_from_db()
    assert (active.state, active.reason) == ("ended", "superseded")
    assert (suspect.state, suspect.reason) == ("ended", "credentials_refused")


def test_what_was_never_let_in_is_cleared_away_after_a_month_with_its_mailbox(
    enrol: Callable[..., Device], mailbox: Mailbox
) -> None:
    refused, blocked = enrol("aa" * 32), enrol("bb" * 32)
    Device.objects.filter(id=refused.id).update(state="refused")
    Device.objects.filter(id=blocked.id).update(state="blocked")
    long_ago = timezone.now() - ending.REFUSED_KEPT - timedelta(hours=1)
    Mailbox.objects.update(created_at=long_ago)
    other = Mailbox.objects.create(mail_system=mailbox.mail_system, user_hmac="nobody")
    ending.housekeeping()
    assert Device.objects.count() == 2
    assert Mailbox.objects.count() == 2  # the other one was made just now: its join may come
    Device.objects.update(state_at=long_ago)
    Mailbox.objects.filter(id=other.pk).update(created_at=long_ago)
    ending.housekeeping()
    # A block must outlive everything.
    assert [device.id for device in Device.objects.all()] == [blocked.id]
    assert [one.pk for one in Mailbox.objects.all()] == [mailbox.pk]
    Device.objects.all().delete()
    refusals.remember(mailbox, CREDENTIALS)
    ending.housekeeping()
    assert Mailbox.objects.exists()  # refused credentials are remembered for a day
    RefusedCredential.objects.update(refused_at=timezone.now() - timedelta(hours=25))
    ending.housekeeping()
    assert not Mailbox.objects.exists()


def test_credentials_are_tried_by_one_worker_at_a_time(mailbox: Mailbox) -> None:
    assert refusals.begin_trial(mailbox, CREDENTIALS)
    assert not refusals.begin_trial(mailbox, CREDENTIALS)
    assert refusals.begin_trial(mailbox, Credentials("basic", "anna", "another"))
    assert not refusals.known(mailbox, CREDENTIALS)
    # Whoever tried it has died.
    RefusedCredential.objects.update(trial_until=timezone.now() - timedelta(seconds=1))
    assert refusals.begin_trial(mailbox, CREDENTIALS)
    refusals.remember(mailbox, CREDENTIALS)
    refusals.end_trial(mailbox, CREDENTIALS)
    with pytest.raises(errors.CredentialsRefused):
        refusals.begin_trial(mailbox, CREDENTIALS)
