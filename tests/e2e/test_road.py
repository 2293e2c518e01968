"""The main road: what happens in an inbox, and what its user's phones get of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from apps.lab.phone import Refused
from apps.lab.stand.waiting import until
from tests.e2e.road import Road, all_once

pytestmark = pytest.mark.timeout(90)


def test_a_mail_rings_on_every_phone_of_its_user(road: Road) -> None:
    user = road.user("anna")
    phones = [road.joined(user, "first"), road.joined(user, "second")]
    stranger = road.joined(road.user("stranger"))

    road.exchange.deliver(user, "Lunch on Friday?", from_name="Ben Carter")

    for phone in phones:
        push = road.rings(phone, "Lunch on Friday?")
        assert (push.title, push.badge) == ("Ben Carter", 1)
        assert push.collapse_id == push.item
    assert road.announcements(phones[0])[0].item != road.announcements(phones[1])[0].item
    assert len(road.exchange.subscriptions(user)) == 1
    road.quiet()
    assert [len(road.announcements(phone)) for phone in phones] == [1, 1]
    assert road.announcements(stranger) == []


def test_the_badge_follows_the_unread_count(road: Road) -> None:
    user = road.user("anna")
    phones = [road.joined(user, "first"), road.joined(user, "second")]
    mails = [road.exchange.deliver(user, f"Mail {number}") for number in (1, 2, 3)]
    for phone in phones:
        road.rings(phone, "Mail 3")
        road.badge(phone, 3)

    road.exchange.read(mails[0])
    for phone in phones:
        road.badge(phone, 2)
    road.exchange.delete(mails[1])
    road.exchange.move(mails[2], "deleteditems")
    for phone in phones:
        road.badge(phone, 0)
        assert sorted(road.subjects(phone)) == ["Mail 1", "Mail 2", "Mail 3"]


@pytest.mark.parametrize("kind", ["MeetingRequest", "MeetingResponse", "MeetingCancellation"])
def test_meeting_messages_are_announced(road: Road, kind: str) -> None:
    user = road.user("anna")
    phone = road.joined(user)
    road.exchange.deliver(user, "Planning", kind=kind, from_name="Carla Conti")
    push = road.rings(phone, "Planning")
    assert (push.title, push.badge) == ("Carla Conti", 1)


def test_mail_that_is_no_news_is_not_announced(road: Road) -> None:
    user = road.user("anna")
    old = road.exchange.deliver(user, "Tidied back", folder="deleteditems", age_s=3600)
    phone = road.joined(user)
    road.exchange.deliver(user, "Read by a rule", is_read=True)
    road.exchange.deliver(user, "To the junk", folder="junkemail")
    road.exchange.move(old, "inbox")

    road.exchange.deliver(user, "News")
    assert road.rings(phone, "News").badge == 2
    road.quiet()
    assert road.subjects(phone) == ["News"]


def test_a_mail_released_from_quarantine_is_announced(road: Road) -> None:
    user = road.user("anna")
    phone = road.joined(user)
    held_back = road.exchange.deliver(user, "Released", folder="junkemail", age_s=60)
    road.exchange.move(held_back, "inbox")
    assert road.rings(phone, "Released").badge == 1


def test_the_last_phone_that_leaves_ends_the_subscription(road: Road) -> None:
    user = road.user("anna")
    first, second = road.joined(user, "first"), road.joined(user, "second")
    second.unsubscribe()
    second.unsubscribe()
    road.exchange.deliver(user, "For one")
    road.rings(first, "For one")
    assert road.announcements(second) == []
    with pytest.raises(Refused, match="unknown_device"):
        second.check_in()

    first.unsubscribe()
    # Exchange hears of it when it next calls.
    road.exchange.deliver(user, "For nobody")
    road.holds(user, 0)
    road.quiet()
    assert (road.subjects(first), road.subjects(second)) == (["For one"], [])


def test_another_phone_takes_over_when_the_owner_leaves(road: Road) -> None:
    user = road.user("anna")
    owner, heir = road.joined(user, "owner"), road.joined(user, "heir")
    (before,) = road.exchange.subscriptions(user)
    owner.unsubscribe()

    # Until the heir has brought its credentials, the owner's subscription serves it.
    road.exchange.deliver(user, "In between")
    road.rings(heir, "In between")
    road.renews(heir)
    road.quiet()
    # Exchange holds both until it calls for the old one, and hears that it is over.
    road.exchange.deliver(user, "Reported by both")
    road.rings(heir, "Reported by both")
    road.holds(user, 1)
    assert road.exchange.subscriptions(user)[0]["id"] != before["id"]

    road.exchange.deliver(user, "After")
    road.rings(heir, "After")
    road.quiet()
    assert sorted(road.subjects(heir)) == ["After", "In between", "Reported by both"]
    assert all_once(push.item for push in road.announcements(heir))
    assert road.announcements(owner) == []


@pytest.fixture
def elsewhere(road: Road) -> Iterator[str]:
    """The lab's Exchange under another name: to ENS, another mail server. It is in trouble."""
    yield road.stand.ews_url.replace("127.0.0.1", "localhost")
    # ENS leaves a server alone that said it is busy; a new worker knows nothing of that.
    road.stand.kill("worker")


@pytest.mark.parametrize(
    "trouble",
    [{"kind": "hang"}, {"kind": "busy", "back_off_ms": 60_000}, {"kind": "unavailable"}],
    ids=lambda trouble: trouble["kind"],
)
def test_a_mail_whose_details_cannot_be_had_is_announced_all_the_same(
    road: Road, elsewhere: str, trouble: dict[str, object]
) -> None:
    user, other = road.user("anna"), road.user("ben")
    phone = road.stand.phone(replace(road.stand.account(user), ews_url=elsewhere))
    others = road.joined(other)
    assert phone.join() == "active"
    road.exchange.trouble(user=user, **trouble)
    for number in (1, 2):
        road.exchange.deliver(user, f"Nobody knows {number}")
        assert road.plain(phone, number, 25).badge == number

    # It hurts nobody at another server.
    road.exchange.deliver(other, "Meanwhile")
    road.rings(others, "Meanwhile", 3)
    if trouble["kind"] == "hang":
        road.exchange.clear_faults()
        road.exchange.deliver(user, "As ever")
        road.rings(phone, "As ever")
    road.quiet()
    assert road.plain(phone, 2).body == ""


def test_a_busy_exchange_is_asked_again_when_it_said(road: Road) -> None:
    user = road.user("anna")
    phone = road.joined(user)
    road.exchange.trouble("busy", user, seconds=2, back_off_ms=2500)
    road.exchange.deliver(user, "A little later")
    road.rings(phone, "A little later", 12)
    road.quiet()
    assert len(road.announcements(phone)) == 1


def test_after_a_new_password_a_phone_hears_what_it_missed_once_it_has_brought_it(
    road: Road,
) -> None:
    user = road.user("anna")
    first, second = road.joined(user, "first"), road.joined(user, "second")
    road.exchange.set_password(user, "a new one")
    road.exchange.deliver(user, "Found it out")
    for phone in (first, second):
        road.plain(phone, 1)
    road.exchange.deliver(user, "Missed")
    # The old password was tried once: the account must not lock.
    assert road.exchange.refused_logins(user) == 1

    first.account = replace(first.account, password="a new one")
    road.renews(first)
    road.rings(first, "Missed")
    road.exchange.deliver(user, "Told again")
    road.rings(first, "Told again")
    # The other one has not brought it, and hears nothing.
    second.check_in(credentials=True)
    until("the second phone is refused", lambda: second.check_in().state == "refused", 10)
    assert second.code == "credentials_refused"
    road.exchange.deliver(user, "For the first alone")
    road.rings(first, "For the first alone")
    road.quiet()
    assert len(road.announcements(first)) == 4
    assert len(road.announcements(second)) == 1
    assert road.exchange.refused_logins(user) == 1


def test_a_phone_whose_app_was_removed_is_not_bothered_again(road: Road) -> None:
    user = road.user("anna")
    gone, stays = road.joined(user, "gone"), road.joined(user, "stays")
    gone.service.unregister(gone.token)
    for subject in ("One", "Two"):
        road.exchange.deliver(user, subject)
        road.rings(stays, subject)
    answer = gone.check_in()
    assert (answer.state, answer.code, answer.do) == ("retired", "push_token_dead", "subscribe")


def test_strange_subjects_arrive_as_they_are(road: Road) -> None:
    user = road.user("anna")
    phone = road.joined(user)
    subject = f"Größe & <b>Preis</b> \"q\" 'a' \\ 日本語 🎉 {secrets.token_hex(3)}"
    road.exchange.deliver(user, subject, from_name="Åsa O'Brien & Söhne <x>")
    assert road.rings(phone, subject).title == "Åsa O'Brien & Söhne <x>"


def test_a_lost_subscription_is_replaced_at_the_next_check_in(road: Road) -> None:
    user = road.user("anna")
    phone = road.joined(user)
    (held,) = road.exchange.subscriptions(user)
    road.exchange.fail_subscription(held["id"])
    road.holds(user, 0)
    road.exchange.deliver(user, "In the gap")
    road.renews(phone)
    road.holds(user, 1)
    road.rings(phone, "In the gap")
