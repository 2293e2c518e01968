"""What only the phone can read; what somebody else sends; a phone that changes hands."""

from __future__ import annotations

import json
import secrets
import time
from io import BytesIO
from typing import Any

import pycurl
import pytest
import requests
from joserfc import jws
from joserfc.jwk import ECKey

from apps.lab.phone import Phone
from apps.lab.phone.pushes import UNVERIFIED
from apps.lab.stand.facts import APP_ID
from apps.lab.stand.waiting import until
from tests.e2e.marks import Searcher
from tests.e2e.road import RING_S, Road

pytestmark = pytest.mark.timeout(120)


def raw(road: Road, phone: Phone) -> bytes:
    """Everything Apple or Google was given for the phone, as it was."""
    pushes = [push.payload for push in phone.service.pushes(phone.token, 0)]
    return json.dumps(pushes, ensure_ascii=False).encode()


@pytest.mark.parametrize("android", [False, True], ids=["iOS", "Android"])
def test_a_captured_push_says_nothing_and_the_phone_shows_all(road: Road, android: bool) -> None:
    user = road.user("reader")
    phone = road.joined(user, encrypted=True, android=android)
    open_phone = road.joined(user, "open phone", android=android)
    marks = {
        "the sender": f"Sündér {secrets.token_hex(6)}",
        "the address": f"sender-{secrets.token_hex(6)}@partner.example",
        "the subject": f"Angebot für «{secrets.token_hex(6)}» 🙂",
    }
    road.exchange.deliver(
        user,
        marks["the subject"],
        from_name=marks["the sender"],
        from_address=marks["the address"],
    )
    push = road.rings(phone, marks["the subject"])
    assert (push.title, push.verified) == (marks["the sender"], True)
    road.rings(open_phone, marks["the subject"])
    searcher = Searcher(marks)
    assert searcher.in_bytes(raw(road, phone), "on its way") == set()
    # The search finds what is there: the other phone has no key.
    assert searcher.in_bytes(raw(road, open_phone), "on its way") != set()


def test_a_new_content_key_and_the_old_one_both_open_what_was_meant_for_them(road: Road) -> None:
    user = road.user("renewer")
    phone = road.joined(user, encrypted=True)
    road.exchange.deliver(user, "To the first key")
    road.rings(phone, "To the first key")
    phone.renew_content_key()
    until("its proof", lambda: phone.check_in().do == "nothing", RING_S)
    road.exchange.deliver(user, "To the second key")
    push = road.rings(phone, "To the second key")
    assert push.verified
    newest = phone.content_keys[-1]
    assert newest.decrypt(push.enc)
    assert [one.verified for one in road.announcements(phone)] == [True, True]


def test_a_push_forged_with_the_apns_key_alone_is_shown_as_unverified(road: Road) -> None:
    phone = road.joined(road.user("target"), encrypted=True)
    forge(road, phone, {"alert": {"title": "The boss", "body": "Pay this bill"}}, {})
    # Even with a good envelope of another push around: it is signed for another item.
    user = road.user("other")
    other = road.joined(user, encrypted=True)
    road.exchange.deliver(user, "Genuine")
    enc = road.rings(other, "Genuine").enc
    forge(road, phone, {"alert": {"title": "New mail"}, "mutable-content": 1}, {"enc": enc})
    until("both forgeries", lambda: len(road.announcements(phone)) == 2, RING_S)
    for push in road.announcements(phone):
        assert (push.verified, push.title, push.body) == (False, UNVERIFIED, "")


def test_a_phone_handed_on_hears_nothing_of_its_former_owner(road: Road) -> None:
    former, heir = road.user("former"), road.user("heir")
    old = road.joined(former)
    elsewhere = road.joined(former, "former's other phone")
    new = road.phone(heir, "the same phone", token=old.token, accounts=[heir.address])
    assert new.join() == "active", new.code
    road.exchange.deliver(former, "Not for the heir")
    road.exchange.deliver(heir, "For the heir")
    road.rings(elsewhere, "Not for the heir")
    road.rings(new, "For the heir")
    road.quiet()
    assert road.subjects(new) == ["For the heir"]


def test_who_only_knows_a_push_token_drops_nobody(road: Road) -> None:
    """Without a mailbox of the organization's, naming accounts does nothing."""
    user = road.user("owner")
    phone = road.joined(user)
    stranger = road.user("stranger")
    guess = road.phone(stranger, "guess", token=phone.token, accounts=[stranger.address])
    road.exchange.set_password(stranger, secrets.token_hex(8))
    assert guess.join() == "refused"
    road.exchange.deliver(user, "Still told")
    road.rings(phone, "Still told")


def test_wishes_hold_from_the_next_check_in(road: Road) -> None:
    user = road.user("wisher")
    wishes = {"content": "sender", "vips": ["vip@partner.example"], "sound": "bell.caf"}
    phone = road.joined(user, wishes=wishes)
    road.exchange.deliver(user, "Nobody special")
    road.badge(phone, 1)
    road.exchange.deliver(user, "A VIP's", from_name="Vera", from_address="VIP@Partner.example")
    push = road.gets(phone, lambda push: push.title == "Vera", "a VIP's mail")
    assert (push.body, push.payload["aps"]["sound"]) == ("", "bell.caf")
    every_hour = [{"begin": "00:00", "end": "00:00"}]
    phone.check_in(wishes={"quiet_hours": every_hour}, time_zone="Asia/Tokyo")
    road.exchange.deliver(user, "In quiet hours")
    road.badge(phone, 3)
    phone.check_in(wishes={})
    road.exchange.deliver(user, "Topic")
    road.exchange.deliver(user, "Re: Topic")
    first, answer = road.rings(phone, "Topic"), road.rings(phone, "Re: Topic")
    threads = [one.payload["aps"]["thread-id"] for one in (first, answer)]
    assert threads[0] == threads[1]
    assert road.subjects(phone) == ["", "Topic", "Re: Topic"]


def forge(road: Road, phone: Phone, aps: dict[str, Any], ens: dict[str, str]) -> None:
    """Push to Apple with an APNs key of the organization's, past ENS and its relay."""
    key, key_id, team = ECKey.generate_key("P-256"), secrets.token_hex(5).upper(), "F0RGERTEAM"
    registered = {
        "key_id": key_id,
        "team_id": team,
        "public_pem": key.as_pem(private=False).decode(),
        "topics": [APP_ID],
    }
    requests.post(f"{road.stand.apns_control}/keys", json=registered, timeout=10).raise_for_status()
    claims = json.dumps({"iss": team, "iat": int(time.time())})
    token = jws.serialize_compact({"alg": "ES256", "kid": key_id}, claims, key)
    item = secrets.token_hex(16)
    content = {"aps": aps, "ens": {"v": 1, "kind": "announcement", "item": item} | ens}
    answer, curl = BytesIO(), pycurl.Curl()
    curl.setopt(pycurl.URL, f"{road.stand.apns_url}/3/device/{phone.token}")
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_0)
    curl.setopt(pycurl.CAINFO, str(road.stand.apns_ca))
    curl.setopt(pycurl.PROXY, "")
    curl.setopt(pycurl.POSTFIELDS, json.dumps(content))
    headers = {"authorization": f"bearer {token}", "apns-topic": APP_ID, "apns-push-type": "alert"}
    curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
    curl.setopt(pycurl.WRITEFUNCTION, answer.write)
    curl.perform()
    status = curl.getinfo(pycurl.RESPONSE_CODE)
    curl.close()
    assert status == 200, answer.getvalue()
