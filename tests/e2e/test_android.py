"""Android phones: the same road, through FCM."""

from __future__ import annotations

import pytest
import requests

from apps.lab.stand.waiting import until
from tests.e2e.road import Road

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_mail_rings_on_phones_of_both_kinds(road: Road, encrypted: bool) -> None:
    user = road.user("anna")
    android = road.joined(user, "android", android=True, encrypted=encrypted)
    iphone = road.joined(user, "iphone")

    item = road.exchange.deliver(user, "Lunch on Friday?", from_name="Ben Carter")

    for phone in (android, iphone):
        push = road.rings(phone, "Lunch on Friday?")
        assert (push.title, push.badge) == ("Ben Carter", 1)
    (push,) = road.announcements(android)
    # What Google sees.
    assert push.tells is not encrypted
    assert push.verified is (True if encrypted else None)
    road.exchange.read(item)
    road.badge(android, 0)
    road.badge(iphone, 0)


def test_an_app_that_was_removed_is_not_pushed_to_again(road: Road) -> None:
    user = road.user("anna")
    gone, other = road.joined(user, "gone", android=True), road.joined(user, "other")
    gone.service.unregister(gone.token)
    road.exchange.deliver(user, "First")
    road.rings(other, "First")
    until("a retired device", lambda: gone.check_in().code == "push_token_dead", 20)
    assert road.announcements(gone) == []


def test_what_google_puts_off_comes_later(road: Road) -> None:
    user = road.user("anna")
    phone = road.joined(user, android=True)
    fault = {"action": "refuse", "reason": "UNAVAILABLE", "retry_after_s": 1, "token": phone.token}
    url = f"{road.stand.fcm_control}/faults"
    requests.post(url, json=fault, timeout=10).raise_for_status()
    road.exchange.deliver(user, "Put off")
    road.rings(phone, "Put off")
    road.quiet()
    assert len(road.announcements(phone)) == 1
