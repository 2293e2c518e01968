"""The webhook: what it takes, what it refuses, and how quickly."""

from __future__ import annotations

import tracemalloc
import uuid
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from apps.devices.models import Mailbox
from apps.eventlog.factory import get_log
from apps.eventlog.interface import LogUnavailable
from apps.subscriptions import ending, webhook_url
from apps.subscriptions.entries import MAIL, MailWork
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.vault.lookup import lookup_hmac

PATH = "/MailNotificationService/api/ens/notify"
M = "http://schemas.microsoft.com/exchange/services/2006/messages"
T = "http://schemas.microsoft.com/exchange/services/2006/types"
EWS_ID = "HQBtYWlsLmV4YW1wbGUuY29tEAAAAA=="
NEW_MAIL = """<t:NewMailEvent><t:Watermark>AQ==</t:Watermark>
<t:TimeStamp>2026-11-21T12:00:00Z</t:TimeStamp><t:ItemId Id="item-1" ChangeKey="c"/>
<t:ParentFolderId Id="inbox" ChangeKey="c"/></t:NewMailEvent>"""
STATUS = "<t:StatusEvent><t:Watermark>AQ==</t:Watermark></t:StatusEvent>"


def envelope(events: str = NEW_MAIL, subscription: str = EWS_ID) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Header>
<t:RequestServerVersion xmlns:t="{T}" Version="Exchange2016"/></soap11:Header><soap11:Body>
<m:SendNotification xmlns:m="{M}" xmlns:t="{T}"><m:ResponseMessages>
<m:SendNotificationResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode>
<m:Notification><t:SubscriptionId>{subscription}</t:SubscriptionId>
<t:PreviousWatermark>AA==</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>{events}
</m:Notification></m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification>
</soap11:Body></soap11:Envelope>"""


class Hook:
    """Exchange's side of one subscription."""

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self.client, self.subscription = client, subscription
        self.url = webhook_url.form(subscription.id, "Y3JlZHM").split("/notify", 1)[1]

    def post(self, body: str | bytes = "", content_type: str = "text/xml; charset=utf-8") -> Any:
        return self.client.post(PATH + self.url, body or envelope(), content_type=content_type)

    def status(self, body: str = "") -> str:
        answer = self.post(body)
        assert answer.status_code == 200, answer.content
        return "Unsubscribe" if b"Unsubscribe" in answer.content else "OK"


@pytest.fixture
def hook(db: None, client: Client) -> Hook:
    system = add_mail_system(create_group("Example"), "Exchange", ["mail.example.com"])
    mailbox = Mailbox.objects.create(mail_system=system, user_hmac="u")
    subscription = Subscription.objects.create(
        mailbox=mailbox,
        state="active",
        ews_url="https://mail.example.com/EWS/Exchange.asmx",
        foreign_hmac=lookup_hmac("ews-subscription", EWS_ID),
    )
    return Hook(client, subscription)


def claimed() -> list[MailWork]:
    return [MailWork.from_bytes(e.payload) for e in get_log().claim(MAIL, "test", 100, 30)]


def test_events_are_in_the_log_when_the_answer_is_ok(hook: Hook) -> None:
    assert hook.status() == "OK"
    (work,) = claimed()
    assert work.creds == "Y3JlZHM"
    assert [(event.kind, event.item_id) for event in work.events] == [("NewMail", "item-1")]


def test_a_sign_of_life_is_no_entry(hook: Hook) -> None:
    assert hook.status(envelope(STATUS)) == "OK"
    assert claimed() == []


def test_a_sign_of_life_costs_no_query(
    hook: Hook, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.status(envelope(STATUS))  # reads the row, the MAC key, and the log's copies
    with django_assert_num_queries(0):
        assert hook.status(envelope(STATUS)) == "OK"


def test_a_sign_of_life_replays_dead_letters_for_it_brings_credentials(hook: Hook) -> None:
    hook.status()
    (entry,) = get_log().claim(MAIL, "test", 100, 30)
    get_log().bury(entry.id, "too_old")
    assert hook.status(envelope(STATUS)) == "OK"
    (work,) = claimed()
    assert (work.creds, [event.kind for event in work.events]) == ("Y3JlZHM", ["Status"])
    get_log().revive([entry.partition])
    assert hook.status(envelope(STATUS)) == "OK"
    assert get_log().depth(MAIL) == 1


def test_the_first_sign_of_a_pending_subscription_names_it(hook: Hook) -> None:
    Subscription.objects.update(state="pending", foreign_hmac="")
    assert hook.status(envelope(STATUS)) == "OK"
    (work,) = claimed()
    assert work.foreign_hmac == lookup_hmac("ews-subscription", EWS_ID)


def test_an_error_message_is_passed_on(hook: Hook) -> None:
    body = f"""<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<m:SendNotification xmlns:m="{M}"><m:ResponseMessages>
<m:SendNotificationResponseMessage ResponseClass="Error"><m:MessageText>gone</m:MessageText>
<m:ResponseCode>ErrorReadEventsFailed</m:ResponseCode></m:SendNotificationResponseMessage>
</m:ResponseMessages></m:SendNotification></s:Body></s:Envelope>"""
    assert hook.status(body) == "OK"
    (work,) = claimed()
    assert work.error_code == "ErrorReadEventsFailed"


def test_another_subscription_id_is_told_to_end_and_leaves_nothing(hook: Hook) -> None:
    assert hook.status(envelope(subscription=EWS_ID.lower())) == "Unsubscribe"
    assert claimed() == []


def test_what_is_superseded_is_taken_and_told_to_end(hook: Hook) -> None:
    ending.end(hook.subscription.id, "superseded", shred_now=False)
    assert hook.status() == "Unsubscribe"
    assert len(claimed()) == 1


@pytest.mark.parametrize("reason", ["unsubscribed", "credentials_not_opened"])
def test_what_is_over_is_told_to_end_and_leaves_nothing(hook: Hook, reason: str) -> None:
    ending.end(hook.subscription.id, reason, shred_now=True)
    assert hook.status() == "Unsubscribe"
    assert claimed() == []


def test_an_unknown_subscription_with_our_mac_is_told_to_end(hook: Hook) -> None:
    stranger = webhook_url.form(uuid.uuid4(), "Y3JlZHM").split("/notify", 1)[1]
    hook.url = stranger
    assert hook.status() == "Unsubscribe"
    assert claimed() == []


@pytest.mark.parametrize("change", ["mac", "name", "key", "creds", "nothing", "empty"])
def test_a_url_that_we_did_not_make_is_not_found_without_a_query(
    hook: Hook, change: str, django_assert_num_queries: Any
) -> None:
    hook.status()
    ticket = hook.url.split("id=")[1].split("&")[0]
    name, key, mac = ticket.split(".")
    swapped = "A" if mac[0] != "A" else "B"
    hook.url = {
        "mac": f"?id={name}.{key}.{swapped}{mac[1:]}&creds=Y3JlZHM",
        "name": f"?id={webhook_url.name_of(uuid.uuid4())}.{key}.{mac}&creds=Y3JlZHM",
        "key": f"?id={name}.{key}x.{mac}&creds=Y3JlZHM",
        "creds": f"?id={ticket}&creds=%00%3Cx",
        "nothing": "",
        "empty": "?id=&creds=",
    }[change]
    with django_assert_num_queries(0 if change != "key" else 1):
        assert hook.post().status_code == 404


def test_only_small_soap_posts_are_read(hook: Hook) -> None:
    assert hook.client.get(PATH + hook.url).status_code == 405
    assert hook.post(content_type="application/json").status_code == 415
    assert hook.post(content_type="multipart/form-data; boundary=x").status_code == 415
    assert hook.post(envelope(NEW_MAIL * 3000)).status_code == 413
    assert claimed() == []


@pytest.mark.parametrize(
    "body",
    [
        "<!DOCTYPE x>" + envelope().split("?>", 1)[1],
        '<!DOCTYPE x [<!ENTITY a "b">]>' + envelope().split("?>", 1)[1],
        envelope()[: len(envelope()) // 2],
        "<a/>",
        "not xml",
        "\x00",
        envelope().replace("SendNotification", "SendSomething"),
    ],
)
def test_what_is_no_notification_is_refused(hook: Hook, body: str) -> None:
    assert hook.post(body).status_code == 400
    assert claimed() == []


def test_five_megabytes_cost_no_memory(hook: Hook) -> None:
    body = envelope(NEW_MAIL).encode().replace(b"item-1", b"x" * 5_000_000)
    tracemalloc.start()
    try:
        assert hook.post(body).status_code == 413
        # The test client itself holds the body; a copy of it in our code would double that.
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()


def test_a_log_that_can_not_take_it_is_503(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise LogUnavailable("OperationalError")

    monkeypatch.setattr(get_log(), "append", fail)
    answer = hook.post()
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    get_log().flush()  # type: ignore[attr-defined]
    assert get_log().last_signs([webhook_url.name_of(hook.subscription.id)]) == {}


def test_a_database_that_is_away_is_503(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OperationalError

    monkeypatch.setattr("apps.announce.webhook.identity.foreign_hmac", fail)
    assert hook.post().status_code == 503
