"""checkin and unsubscribe."""

from __future__ import annotations

import json
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from joserfc.jwk import ECKey

from apps import clock
from apps.announce.policy import Quiet, Wishes, vip_hmac
from apps.devices import registry
from apps.devices.models import Device, DeviceState
from apps.eventlog.factory import get_log
from apps.eventlog.interface import LogUnavailable
from apps.keypairs.models import SealedCredential
from apps.operations import device_actions
from apps.subscriptions import current, webhook_url
from apps.subscriptions.models import Subscription
from tests.api.conftest import Api


class Phone:
    """A device that has subscribed."""

    def __init__(self, api: Api, **changes: Any) -> None:
        self.api = api
        answer = api.subscribe(**changes).json()
        self.id, self.secret = answer["device_id"], answer["device_secret"]
        self.counter = 0

    def checkin(self, **claims: Any) -> Any:
        body: dict[str, Any] = {"device_id": self.id}
        if claims:
            self.counter += 1
            full = {
                "iat": int(time.time()),
                "jti": str(uuid.uuid4()),
                "device_id": self.id,
                "counter": self.counter,
            }
            body["jwe"] = self.api.encrypt(full | claims)
        return self.api.post("checkin", body, bearer=self.secret)

    def join(self) -> Subscription:
        """What the worker does once Exchange has agreed."""
        subscription = Subscription.objects.get(owner_id=self.id, state="pending")
        registry.proved(uuid.UUID(self.id))
        Subscription.objects.filter(id=subscription.id).update(state="active", foreign_hmac="f")
        mailbox = subscription.mailbox
        assert current.swap(mailbox.pk, mailbox.current_subscription, subscription.id)
        return subscription

    def prove(self, **address: Any) -> None:
        """Bring credentials and where content is to go; Exchange has nothing against them."""
        assert self.checkin(**CREDENTIALS, **address).status_code == 200
        assert registry.proved(uuid.UUID(self.id))
        Subscription.objects.filter(owner_id=self.id, state="pending").update(state="ended")


CREDENTIALS = {
    "email": "anna@example.com",
    "credentials": {"type": "basic", "username": "anna", "password": "new"},
}


@pytest.fixture
def phone(api: Api) -> Phone:
    return Phone(api)


def test_a_joining_device_waits(phone: Phone) -> None:
    answer = phone.checkin()
    assert answer.status_code == 200
    told = answer.json()
    (current, following) = told.pop("signing_keys")["keys"]
    assert (current["alg"], current["crv"], "d" in current) == ("ES256", "P-256", False)
    assert current["kid"] != following["kid"]
    assert told == {
        "state": "joining",
        "code": None,
        "do": "wait",
        "checkin_seconds": 3600,
        "poll_seconds": 1,
    }


def test_who_waits_long_asks_less_often(phone: Phone) -> None:
    polls = []
    for waited in (0, 5, 60, 600):
        Device.objects.update(state_at=clock.now() - timedelta(seconds=waited))
        polls.append(phone.checkin().json()["poll_seconds"])
    assert polls == [1, 1, 15, 30]


def test_a_join_that_got_lost_is_asked_for_again(phone: Phone) -> None:
    Subscription.objects.all().delete()
    assert phone.checkin().json()["do"] == "send_credentials"


def test_an_active_device_has_nothing_to_do(phone: Phone) -> None:
    phone.join()
    assert phone.checkin().json() | {"state": "active", "do": "nothing"} == phone.checkin().json()


def test_a_refused_device_hears_why(phone: Phone) -> None:
    registry.move(uuid.UUID(phone.id), DeviceState.REFUSED, "credentials_refused")
    told = phone.checkin().json()
    assert (told["state"], told["code"], told["do"]) == (
        "refused",
        "credentials_refused",
        "subscribe",
    )


def test_the_proof_is_asked_for_before_it_runs_out(phone: Phone) -> None:
    phone.join()
    Device.objects.update(proved_at=timezone.now() - timedelta(hours=19))
    assert phone.checkin().json()["do"] == "nothing"
    Device.objects.update(proved_at=timezone.now() - timedelta(hours=21))
    assert phone.checkin().json()["do"] == "send_credentials"


@pytest.mark.parametrize("state", ["suspect", "lost", "ended"])
def test_credentials_are_asked_for_when_the_subscription_is_not_alive(
    phone: Phone, state: str
) -> None:
    phone.join()
    Subscription.objects.update(state=state)
    assert phone.checkin().json()["do"] == "send_credentials"


def test_credentials_begin_a_new_join(phone: Phone) -> None:
    phone.join()
    assert phone.checkin(**CREDENTIALS).status_code == 200
    assert Subscription.objects.filter(owner_id=phone.id, state="pending").count() == 1
    assert get_log().depth("join") == 2


def test_while_a_new_proof_is_under_way_the_app_comes_back_for_the_outcome(phone: Phone) -> None:
    phone.join()
    told = phone.checkin(**CREDENTIALS).json()
    assert (told["state"], told["do"], told["poll_seconds"]) == ("active", "wait", 10)


def test_the_push_token_of_a_blocked_phone_blocks_and_is_no_fault_of_the_server(
    api: Api, phone: Phone
) -> None:
    other = Phone(api, push_token="cd" * 32)
    blocked = Device.objects.get(id=other.id)
    device_actions.block(blocked, device_actions.By("test"), shred_now=False)
    answer = phone.checkin(push_token="cd" * 32)
    assert (answer.status_code, answer.json()["state"]) == (200, "blocked")


def test_an_entry_that_the_log_does_not_take_leaves_no_join_behind(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.join()
    before = Subscription.objects.count()

    def away(_entry: Any) -> bool:
        raise LogUnavailable("OperationalError")

    monkeypatch.setattr(get_log(), "append", away)
    assert phone.checkin(**CREDENTIALS).status_code == 503
    assert Subscription.objects.count() == before
    assert phone.checkin().json()["do"] == "nothing"


def test_credentials_for_another_address_are_refused(phone: Phone) -> None:
    answer = phone.checkin(**(CREDENTIALS | {"email": "ben@example.com"}))
    assert (answer.status_code, answer.json()["code"]) == (400, "not_this_mailbox")


def test_a_jwe_of_another_device_is_refused(api: Api, phone: Phone) -> None:
    other = Phone(api, push_token="cd" * 32)
    answer = phone.checkin(device_id=other.id, **CREDENTIALS)
    assert answer.json()["code"] == "jwe_other_device"


def test_the_counter_must_rise(phone: Phone) -> None:
    assert phone.checkin(push_token="aa" * 32, counter=5).status_code == 200
    for counter in (5, 4):
        again = phone.checkin(push_token="bb" * 32, counter=counter)
        assert again.json()["code"] == "counter_not_rising"
    assert registry.push_token(Device.objects.get()) == "aa" * 32


def test_a_wrong_secret_and_an_unknown_device_look_the_same(api: Api, phone: Phone) -> None:
    wrong = api.post("checkin", {"device_id": phone.id}, bearer="ensd_wrong")
    unknown = api.post("checkin", {"device_id": str(uuid.uuid4())}, bearer=phone.secret)
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    assert wrong.json()["code"] == "unknown_device"


def test_the_last_device_takes_the_subscription_with_it(phone: Phone) -> None:
    subscription = phone.join()
    answer = phone.api.post("unsubscribe", {"device_id": phone.id}, bearer=phone.secret)
    assert answer.status_code == 204
    assert not Device.objects.exists()
    subscription.refresh_from_db()
    assert (subscription.state, subscription.reason) == ("ended", "owner_left")
    assert not SealedCredential.objects.exists()
    name = webhook_url.name_of(subscription.id)
    assert get_log().sign_of_life(name) is False
    again = phone.api.post("unsubscribe", {"device_id": phone.id}, bearer=phone.secret)
    assert again.status_code == 204


def test_a_mailbox_whose_owner_left_is_served_until_another_takes_over(
    api: Api, phone: Phone
) -> None:
    subscription = phone.join()
    other = Phone(api, push_token="cd" * 32)
    registry.proved(uuid.UUID(other.id))
    Subscription.objects.filter(owner_id=other.id).delete()
    assert other.checkin().json()["do"] == "nothing"
    api.post("unsubscribe", {"device_id": phone.id}, bearer=phone.secret)
    subscription.refresh_from_db()
    assert subscription.state == "active"
    assert subscription.hand_over_by is not None
    assert SealedCredential.objects.filter(subscription_id=subscription.id).exists()
    assert other.checkin().json()["do"] == "send_credentials"


def test_unsubscribing_with_a_wrong_secret_changes_nothing(api: Api, phone: Phone) -> None:
    answer = api.post("unsubscribe", {"device_id": phone.id}, bearer="ensd_wrong")
    assert answer.status_code == 204
    assert Device.objects.filter(id=phone.id).exists()


def test_wishes_and_time_zone_are_replaced_and_no_address_is_kept(phone: Phone) -> None:
    wishes = {
        "content": "sender",
        "vips": ["Boss.Canary@Example.com"],
        "quiet_hours": [{"begin": "22:00", "end": "06:30", "days": [5, 6]}],
        "sound": "none",
        "group_conversations": False,
    }
    assert phone.checkin(wishes=wishes, time_zone="Asia/Tokyo").status_code == 200
    device = Device.objects.get(id=phone.id)
    kept = Wishes.from_json(device.wishes)
    assert (device.content_wish, device.time_zone) == ("sender", "Asia/Tokyo")
    assert kept.vips == {vip_hmac("boss.canary@example.com")}
    assert kept.quiet == (Quiet((5, 6), 22 * 60, 6 * 60 + 30),)
    assert (kept.sound, kept.group_conversations) == ("none", False)
    assert "canary" not in str(device.wishes).lower()
    assert phone.checkin(wishes={}).status_code == 200
    device.refresh_from_db()
    assert (device.content_wish, Wishes.from_json(device.wishes)) == ("", Wishes())


@pytest.mark.parametrize(
    "wishes",
    [
        {"content": "everything"},
        {"quiet_hours": [{"begin": "24:00", "end": "06:00"}]},
        {"quiet_hours": [{"begin": "22:00"}]},
        {"quiet_hours": [{"begin": "22:00", "end": "06:00\n"}]},
        {"quiet_hours": [{"begin": "22:00", "end": "06:00", "days": [0]}]},
        {"quiet_hours": [{"begin": "22:00", "end": "06:00"}] * 9},
        {"vips": ["a@example.com"] * 101},
        {"sound": "../etc/passwd"},
        {"sound": "a b"},
    ],
)
def test_wishes_that_make_no_sense_are_refused(phone: Phone, wishes: dict[str, Any]) -> None:
    answer = phone.checkin(wishes=wishes)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "wishes" in answer.json()["detail"]


def test_a_new_content_key_takes_the_place_of_the_old_one(phone: Phone) -> None:
    key = ECKey.generate_key("P-256").as_dict(private=False)
    assert phone.checkin(content_key=key).status_code == 200
    assert json.loads(Device.objects.get(id=phone.id).content_key) == key


def test_whoever_has_only_the_secret_leads_no_content_away(phone: Phone) -> None:
    """A new key, and a new token where nothing is encrypted, need a new proof."""
    phone.join()
    assert phone.checkin(push_token="ab" * 32).json()["do"] == "nothing"  # as it was
    assert phone.checkin(push_token="cd" * 32).json()["do"] == "send_credentials"
    phone.prove(push_token="cd" * 32)
    key = ECKey.generate_key("P-256").as_dict(private=False)
    assert phone.checkin(content_key=key).json()["do"] == "send_credentials"
    device = Device.objects.get()
    assert device.proved_at is not None
    assert device.proved_at <= timezone.now() - timedelta(hours=24)
    phone.prove(push_token="cd" * 32, content_key=key)
    assert phone.checkin(content_key=key, push_token="ef" * 32).json()["do"] == "nothing"


def test_a_proof_vouches_only_for_the_key_that_came_with_it(phone: Phone) -> None:
    """Else the owner's next credentials would prove a key that somebody else has put there."""
    phone.join()
    theirs = ECKey.generate_key("P-256").as_dict(private=False)
    assert phone.checkin(content_key=theirs).status_code == 200
    refused = phone.checkin(**CREDENTIALS)
    assert (refused.status_code, refused.json()["code"]) == (400, "address_needed")
    assert phone.checkin(**CREDENTIALS, push_token="ab" * 32).status_code == 200
    assert Device.objects.get().content_key == ""
    # While that proof is under way, another one is put there.
    assert phone.checkin(content_key=theirs).status_code == 200
    assert not registry.proved(uuid.UUID(phone.id))
    mine = ECKey.generate_key("P-256").as_dict(private=False)
    phone.prove(push_token="ab" * 32, content_key=mine)
    assert json.loads(Device.objects.get().content_key) == mine


def test_a_content_key_with_its_private_half_or_off_the_curve_is_refused(phone: Phone) -> None:
    key = ECKey.generate_key("P-256")
    public = key.as_dict(private=False)
    for bad in (
        key.as_dict(private=True),
        public | {"y": public["x"]},
        public | {"x": public["x"] + "AA"},
        ECKey.generate_key("P-384").as_dict(private=False),
        {"kty": "EC", "crv": "P-256"},
    ):
        answer = phone.checkin(content_key=bad)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert Device.objects.get(id=phone.id).content_key == ""
