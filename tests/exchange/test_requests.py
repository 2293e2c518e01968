"""Every request against the official schema, whatever it is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from apps.exchange.ews import find_item, get_folder, get_item, subscribe
from tests.exchange.schema import assert_valid

T = "{http://schemas.microsoft.com/exchange/services/2006/types}"
NASTY = [
    "a&b<c>\"d'",
    "]]>",
    "</t:EmailAddress>",
    "ünïcödé \U0001f600",
    "\x00\x0b\ud800\ufffe",
    " ",
]


def test_subscribe() -> None:
    url = "https://ens.example/notify?id=a.b.c&creds=" + "x" * 2000
    content = assert_valid(subscribe.request(url, 30))
    assert content.findtext(f".//{T}URL") == url
    assert content.findtext(f".//{T}StatusFrequency") == "30"
    assert [event.text for event in content.iter(f"{T}EventType")] == [
        "NewMailEvent",
        "CreatedEvent",
        "DeletedEvent",
        "ModifiedEvent",
        "MovedEvent",
    ]


@pytest.mark.parametrize("minutes", [1, 1440])
def test_status_frequency(minutes: int) -> None:
    assert_valid(subscribe.request("https://x/", minutes))


@pytest.mark.parametrize("minutes", [0, -1, 1441])
def test_status_frequency_out_of_range(minutes: int) -> None:
    with pytest.raises(ValueError, match="minutes"):
        subscribe.request("https://x/", minutes)


def test_get_folder() -> None:
    assert_valid(get_folder.UNREAD_REQUEST)
    content = assert_valid(get_folder.proof_request("anna@example.com"))
    own, claimed = content.iter(f"{T}DistinguishedFolderId")
    assert (len(own), own.get("Id"), claimed.get("Id")) == (0, "inbox", "inbox")
    assert claimed.findtext(f"{T}Mailbox/{T}EmailAddress") == "anna@example.com"


def test_get_item() -> None:
    content = assert_valid(get_item.request(["AAMk+/=", *NASTY]))
    ids = [element.get("Id") for element in content.iter(f"{T}ItemId")]
    assert ids[:2] == ["AAMk+/=", "a&b<c>\"d'"]
    fields = {element.get("FieldURI") for element in content.iter(f"{T}FieldURI")}
    assert {"message:From", "item:Subject", "message:IsRead", "item:DateTimeReceived"} <= fields


@pytest.mark.parametrize("conversations", [True, False])
@pytest.mark.parametrize("previews", ["none", "property", "body"])
def test_get_item_asks_for_no_more_than_is_wanted(
    previews: get_item.Previews, conversations: bool
) -> None:
    raw = get_item.request(["a"], previews, conversations=conversations)
    content = assert_valid(raw)
    fields = {element.get("FieldURI") for element in content.iter(f"{T}FieldURI")}
    assert ("item:Preview" in fields, "item:Body" in fields) == (
        previews == "property",
        previews == "body",
    )
    assert ("item:ConversationId" in fields) is conversations
    assert (content.findtext(f".//{T}BodyType") == "Text") is (previews == "body")
    # Exchange 2010 knows no previews, and refuses what is written for a newer one.
    assert (b'"Exchange2010_SP2"' in raw) is (previews != "property")


def test_find_item() -> None:
    since = datetime(2026, 11, 21, 12, 0, 0, 999, timezone(timedelta(hours=2)))
    content = assert_valid(find_item.request(since, 50))
    assert [element.get("Value") for element in content.iter(f"{T}Constant")] == [
        "false",
        "2026-11-21T10:00:00Z",
    ]
    assert_valid(find_item.request(datetime(1, 1, 1, tzinfo=UTC), 1))


@pytest.mark.parametrize("text", NASTY)
def test_what_is_put_in_can_t_break_out(text: str) -> None:
    for raw in (
        subscribe.request(text, 30),
        get_folder.proof_request(text),
        get_item.request([text]),
    ):
        assert_valid(raw)


@given(st.text(st.characters(), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_makes_the_same_tree(text: str) -> None:
    for make in (get_folder.proof_request, lambda text: get_item.request([text])):
        tags = [[e.tag for e in etree.fromstring(make(t)).iter()] for t in ("x", text)]
        assert tags[0] == tags[1]
