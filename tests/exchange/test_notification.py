from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from apps.exchange.ews.notification import (
    MAX_BYTES,
    Event,
    NotANotification,
    Notification,
    notification_result,
    parse_notification,
)
from tests.exchange import answers
from tests.exchange.schema import assert_valid

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Header>'
    '<t:RequestServerVersion xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" '
    'Version="Exchange2013"/></soap11:Header><soap11:Body><m:SendNotification '
    'xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types" '
    'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">'
    "<m:ResponseMessages>"
)
TAIL = "</m:ResponseMessages></m:SendNotification></soap11:Body></soap11:Envelope>"
IDS = '<t:ItemId Id="item+/=" ChangeKey="CQ"/><t:ParentFolderId Id="inbox" ChangeKey="AQ"/>'
WHEN = "<t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp>"
NEW_MAIL = f"<t:NewMailEvent>{WHEN}{IDS}</t:NewMailEvent>"
STATUS = "<t:StatusEvent><t:Watermark>AQ==</t:Watermark></t:StatusEvent>"


def notification(
    *events: str,
    before: str = "<t:PreviousWatermark>AP==</t:PreviousWatermark>"
    "<t:MoreEvents>false</t:MoreEvents>",
) -> bytes:
    return (
        HEAD + '<m:SendNotificationResponseMessage ResponseClass="Success">'
        "<m:ResponseCode>NoError</m:ResponseCode><m:Notification>"
        f"<t:SubscriptionId>Sub+/=</t:SubscriptionId>{before}{''.join(events)}"
        "</m:Notification></m:SendNotificationResponseMessage>" + TAIL
    ).encode()


def test_new_mail() -> None:
    raw = notification(NEW_MAIL)
    assert_valid(raw)
    moment = datetime(2026, 11, 21, 10, tzinfo=UTC)
    event = Event("NewMail", "item+/=", None, "inbox", None, None, "AQ==", moment, None)
    assert parse_notification(raw) == Notification("Sub+/=", "AP==", False, (event,), None)


def test_several_events_of_every_kind() -> None:
    folder = '<t:FolderId Id="inbox" ChangeKey="AQ"/><t:ParentFolderId Id="root" ChangeKey="AQ"/>'
    old = '<t:OldItemId Id="old" ChangeKey="A"/><t:OldParentFolderId Id="from" ChangeKey="A"/>'
    raw = notification(
        f"<t:CreatedEvent>{WHEN}{IDS}</t:CreatedEvent>",
        NEW_MAIL,
        f"<t:ModifiedEvent>{WHEN}{folder}<t:UnreadCount>7</t:UnreadCount></t:ModifiedEvent>",
        f"<t:MovedEvent>{WHEN}{IDS}{old}</t:MovedEvent>",
        f"<t:CopiedEvent>{WHEN}{IDS}{old}</t:CopiedEvent>",
        f"<t:DeletedEvent>{WHEN}{IDS}</t:DeletedEvent>",
        f"<t:FreeBusyChangedEvent>{WHEN}{IDS}</t:FreeBusyChangedEvent>",
        STATUS,
        before="<t:MoreEvents>true</t:MoreEvents>",
    )
    assert_valid(raw)
    parsed = parse_notification(raw)
    assert (parsed.previous_watermark, parsed.more_events) == ("", True)
    kinds = [event.kind for event in parsed.events]
    assert kinds == [
        "Created",
        "NewMail",
        "Modified",
        "Moved",
        "Copied",
        "Deleted",
        "FreeBusyChanged",
        "Status",
    ]
    modified, moved, status = parsed.events[2], parsed.events[3], parsed.events[7]
    assert (modified.folder_id, modified.item_id, modified.unread_count) == ("inbox", None, 7)
    assert (moved.item_id, moved.old_item_id) == ("item+/=", "old")
    assert (moved.parent_folder_id, moved.old_parent_folder_id) == ("inbox", "from")
    assert (status.watermark, status.timestamp, status.item_id) == ("AQ==", None, None)


def test_an_error_notification_names_the_subscription_in_its_own_way() -> None:
    named = answers.value("SubscriptionId", "Sub+/=")
    for values, expected in ((named, "Sub+/="), ("", "")):
        message = answers.error("SendNotification", "ErrorReadEventsFailed", values=values)
        parsed = parse_notification((HEAD + message + TAIL).encode())
        assert parsed == Notification(expected, error_code="ErrorReadEventsFailed")


def test_an_error_notification_may_name_it_as_others_do() -> None:
    raw = GOOD.replace(b'"Success"', b'"Error"').replace(b"NoError", b"ErrorReadEventsFailed")
    assert parse_notification(raw) == Notification("Sub+/=", error_code="ErrorReadEventsFailed")


@pytest.mark.parametrize("status", ["OK", "Unsubscribe"])
def test_results(status: str) -> None:
    content = assert_valid(notification_result(status))  # type: ignore[arg-type]
    assert etree.QName(content).localname == "SendNotificationResult"
    assert content[0].text == status


GOOD = notification(NEW_MAIL)
BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
REFUSED = {
    "empty": b"",
    "not xml": b"hello",
    "json": b"{}",
    "a doctype": GOOD.replace(b"<soap11:Envelope", b"<!DOCTYPE a><soap11:Envelope", 1),
    "entities": GOOD.replace(b"<soap11:Envelope", BOMB + b"<soap11:Envelope", 1).replace(
        b"Sub+/=", b"&b;"
    ),
    "an outer entity": GOOD.replace(
        b"<soap11:Envelope", b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><soap11:Envelope', 1
    ),
    "an unknown entity": GOOD.replace(b"Sub+/=", b"&x;"),
    "utf-16": GOOD.decode().replace("utf-8", "utf-16").encode("utf-16"),
    "utf-16 with a doctype": GOOD.decode()
    .replace("utf-8", "utf-16")
    .replace("<soap11:Envelope", "<!DOCTYPE a><soap11:Envelope", 1)
    .encode("utf-16"),
    "utf-7 with a doctype": GOOD.replace(b"utf-8", b"utf-7").replace(
        b"<soap11:Envelope", b"+ADwAIQ-DOCTYPE a+AD4-<soap11:Envelope", 1
    ),
    "invalid utf-8": GOOD.replace(b"Sub", b"\xff\xfe"),
    "half": GOOD[: len(GOOD) // 2],
    "something behind": GOOD + b"<a/>",
    "no envelope": GOOD[GOOD.index(b"<m:SendNotification") : GOOD.index(b"</soap11:Body")],
    "two bodies": GOOD.replace(b"</soap11:Body>", b"</soap11:Body><soap11:Body/>"),
    "two in the body": GOOD.replace(b"</soap11:Body>", b"<a/></soap11:Body>"),
    "an empty body": GOOD[: GOOD.index(b"<m:SendNotification")]
    + b"</soap11:Body></soap11:Envelope>",
    "another root": GOOD.replace(b"soap11:Envelope", b"soap11:Letter"),
    "another message": GOOD.replace(b"m:SendNotification ", b"m:GetItem ").replace(
        b"</m:SendNotification>", b"</m:GetItem>"
    ),
    "another namespace": GOOD.replace(b"2006/messages", b"2006/massages"),
    "no messages": (HEAD + TAIL).encode(),
    "two messages": GOOD.replace(
        b"</m:ResponseMessages>",
        b'<m:SendNotificationResponseMessage ResponseClass="Error"/></m:ResponseMessages>',
    ),
    "no class": GOOD.replace(b' ResponseClass="Success"', b""),
    "a warning": GOOD.replace(b'"Success"', b'"Warning"'),
    "no notification": GOOD.replace(b"m:Notification>", b"m:Other>"),
    "no subscription": GOOD.replace(b"Sub+/=", b""),
    "no event": notification(),
    "an unknown event only": notification("<t:OddEvent/>"),
    "an event about nothing": notification(f"<t:NewMailEvent>{WHEN}</t:NewMailEvent>"),
    "an impossible time": GOOD.replace(b"2026-11-21T", b"2026-13-41T"),
    "an impossible count": notification(
        f"<t:ModifiedEvent>{WHEN}{IDS}<t:UnreadCount>-1</t:UnreadCount></t:ModifiedEvent>"
    ),
    "a huge count": notification(
        f"<t:ModifiedEvent>{WHEN}{IDS}<t:UnreadCount>{'9' * 5000}</t:UnreadCount></t:ModifiedEvent>"
    ),
    "an error without a code": GOOD.replace(b'"Success"', b'"Error"').replace(b"NoError", b"a b"),
    "deep": b"<a>" * 5000 + b"</a>" * 5000,
    "too large": GOOD.replace(b"Sub+/=", b"S" * MAX_BYTES),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert REFUSED[name] != GOOD
    began = time.perf_counter()
    with pytest.raises(NotANotification):
        parse_notification(REFUSED[name])
    assert time.perf_counter() - began < 0.5


def test_harmless_extras_are_passed_over() -> None:
    extras = GOOD.replace(b"<m:Notification>", b"<m:Notification><!-- hm --><?pi a?>").replace(
        b"<t:NewMailEvent>", b"<t:OddEvent/><t:NewMailEvent><t:Odd/>"
    )
    assert parse_notification(extras) == parse_notification(GOOD)


def test_the_largest_that_is_taken() -> None:
    room = MAX_BYTES - len(GOOD)
    padded = GOOD + b" " * room
    assert len(padded) == MAX_BYTES
    assert parse_notification(padded).events


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bodies_raise_nothing_else(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    length = data.draw(st.integers(0, 60))
    patch = data.draw(st.one_of(st.binary(max_size=30), st.text(max_size=15).map(_encode)))
    damaged = GOOD[:start] + patch + GOOD[start + length :]
    try:
        parsed = parse_notification(damaged)
    except NotANotification:
        return
    assert parsed.error_code or (parsed.subscription_id and parsed.events)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
