"""What a mailbox's events ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.announce.plan import FRESH, Plan, is_news, plan
from apps.exchange.ews.notification import Event
from apps.exchange.interface import Item

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def event(kind: str, item_id: str | None = None, **more: object) -> Event:
    fields = {
        "folder_id": None,
        "parent_folder_id": None,
        "old_item_id": None,
        "old_parent_folder_id": None,
        "watermark": "w",
        "timestamp": NOON,
        "unread_count": None,
    } | more
    return Event(kind=kind, item_id=item_id, **fields)  # type: ignore[arg-type]


def item(item_id: str = "a", **more: object) -> Item:
    fields = {
        "kind": "message",
        "sender_name": "Ben",
        "sender_address": "ben@example.com",
        "subject": "Lunch",
        "received_at": NOON,
        "is_read": False,
        "parent_folder_id": "inbox",
    } | more
    return Item(item_id=item_id, **fields)  # type: ignore[arg-type]


def merged(*events: Event, counts_are_fresh: bool = True) -> Plan:
    return plan(events, counts_are_fresh=counts_are_fresh)


def test_a_new_mail_is_wanted_once_though_it_was_also_created() -> None:
    made = merged(event("NewMail", "a"), event("Created", "a"), event("NewMail", "a"))
    assert made.item_ids == ["a"]
    assert made.delivered == ("a",)
    assert made.appeared == {}


def test_items_keep_the_order_of_arrival() -> None:
    made = merged(event("NewMail", "b"), event("NewMail", "a"), event("Moved", "c"))
    assert made.item_ids == ["b", "a", "c"]


def test_what_is_deleted_again_is_not_fetched() -> None:
    made = merged(
        event("NewMail", "a"), event("Moved", "b"), event("Deleted", "a"), event("Deleted", "b")
    )
    assert made.item_ids == []
    assert made.badge_may_change


def test_the_folders_own_event_carries_the_unread_count() -> None:
    made = merged(event("NewMail", "a"), event("Modified", folder_id="inbox", unread_count=4))
    assert made.unread_count == 4


def test_a_count_from_before_another_mail_is_not_believed() -> None:
    made = merged(event("Modified", folder_id="inbox", unread_count=4), event("NewMail", "a"))
    assert made.unread_count is None


def test_a_retry_believes_no_count() -> None:
    made = merged(event("Modified", folder_id="inbox", unread_count=4), counts_are_fresh=False)
    assert made.unread_count is None
    assert made.badge_may_change


def test_signs_of_life_ask_for_nothing() -> None:
    assert merged(event("Status")).empty


@pytest.mark.parametrize(
    ("what", "found", "in_inbox", "news"),
    [
        (event("NewMail", "a"), item(), True, True),
        (event("NewMail", "a"), item(is_read=True), True, False),
        (event("NewMail", "a"), item(), False, False),
        (event("NewMail", "a"), item(received_at=None), True, True),
        (event("Moved", "a"), item(received_at=NOON - timedelta(days=30)), True, False),
        (event("Moved", "a"), item(received_at=NOON - FRESH), True, True),
        (event("Created", "a"), item(received_at=NOON - FRESH - timedelta(seconds=1)), True, False),
        (event("Created", "a"), item(received_at=None), True, False),
    ],
)
def test_only_unread_and_fresh_mail_in_the_inbox_is_news(
    what: Event, found: Item, in_inbox: bool, news: bool
) -> None:
    assert is_news(merged(what), found, in_inbox=in_inbox) is news
