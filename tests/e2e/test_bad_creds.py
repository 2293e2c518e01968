"""Credentials in a webhook URL that do not open: found by the worker, and what becomes of it."""

from __future__ import annotations

import base64
import secrets

import pytest

from apps.lab.phone import Phone
from apps.lab.stand.facts import DemoUser
from apps.lab.stand.waiting import until
from tests.e2e.road import Road
from tests.e2e.webhooks import Webhook, webhooks_asked_for

pytestmark = pytest.mark.timeout(90)

NOT_OPENED = "did not open"


@pytest.fixture
def joined(road: Road) -> tuple[DemoUser, Phone, Webhook]:
    """A user, their phone and the webhook URL of their subscription."""
    user = road.user("anna")
    with webhooks_asked_for(road.stand) as urls:
        phone = road.joined(user)
        road.exchange.deliver(user, "The first")
        road.rings(phone, "The first")
    (webhook,) = urls
    return user, phone, webhook


@pytest.mark.parametrize("damage", ["random", "truncated", "flipped", "another's"])
def test_a_subscription_whose_credentials_opened_before_survives_others_in_their_place(
    road: Road, joined: tuple[DemoUser, Phone, Webhook], damage: str
) -> None:
    user, phone, webhook = joined
    (held,) = road.exchange.subscriptions(user)
    creds = _damaged(road, webhook, damage)
    warned = _warnings(road)

    answer = webhook.post(webhook.new_mail(held["id"], secrets.token_hex(20)), creds=creds)
    assert (answer.status_code, "OK" in answer.text) == (200, True)
    until("the worker's warning", lambda: _warnings(road) > warned, 15)
    assert creds not in _log(road)
    assert webhook.creds not in _log(road)
    assert user.address not in _log(road)

    # Exchange's own are still good, and its next notifications are taken and told in full.
    road.exchange.deliver(user, "The second")
    road.rings(phone, "The second")
    road.quiet()
    road.exchange.deliver(user, "The third")
    road.rings(phone, "The third")
    assert [held["id"]] == [one["id"] for one in road.exchange.subscriptions(user)]


def test_one_whose_credentials_never_opened_is_given_up(road: Road) -> None:
    user = road.user("anna")
    phone = road.phone(user)
    # Exchange has the URL and calls, but Subscribe is not answered yet: nothing has opened so far.
    road.exchange.trouble("slow", user, delay_s=6, operations=["Subscribe"])
    with webhooks_asked_for(road.stand) as urls:
        asked = road.exchange.calls("Subscribe")
        phone.subscribe()
        until("Subscribe", lambda: road.exchange.calls("Subscribe") > asked, 15)
    (webhook,) = urls
    name = base64.b64encode(secrets.token_bytes(24)).decode()
    body = webhook.new_mail(name, secrets.token_hex(20))
    warned = _warnings(road)
    assert "OK" in webhook.post(body, creds=_random_creds()).text
    until("the worker's warning", lambda: _warnings(road) > warned, 15)

    until("Unsubscribe", lambda: "Unsubscribe" in webhook.post(body).text, 10)
    road.holds(user, 0)
    until("the join's end", lambda: phone.check_in().do == "subscribe", 20)
    road.exchange.clear_faults()
    assert phone.join() == "active"
    road.exchange.deliver(user, "All is well")
    road.rings(phone, "All is well")


def _damaged(road: Road, webhook: Webhook, damage: str) -> str:
    creds = webhook.creds
    if damage == "truncated":
        return creds[:-4]
    if damage == "flipped":
        middle = len(creds) // 2
        return creds[:middle] + ("A" if creds[middle] != "A" else "B") + creds[middle + 1 :]
    if damage == "another's":
        with webhooks_asked_for(road.stand) as urls:
            other = road.user("ben")
            road.joined(other)
            until("Subscribe", lambda: bool(road.exchange.subscriptions(other)), 10)
        return urls[0].creds
    return _random_creds()


def _random_creds() -> str:
    return secrets.token_urlsafe(200)


def _log(road: Road) -> str:
    names = ("worker", "web", "beat", "relay")
    return "".join((road.stand.logs / f"{name}.log").read_text("utf-8") for name in names)


def _warnings(road: Road) -> int:
    return _log(road).count(NOT_OPENED)
