"""What a phone is sent stays within the push services' limits and says no more than it may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.announce.payload import (
    MAX_PAYLOAD_BYTES,
    Content,
    News,
    announcement,
    badge_correction,
    content_of,
)
from apps.cns.client import Service
from apps.exchange.interface import Item

REF = "0" * 32
SERVICES: list[Service] = ["apns", "fcm"]


def size(payload: dict[str, object]) -> int:
    return len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())


def item(sender: str, subject: str, address: str = "ben@example.com") -> Item:
    return Item(
        item_id="a",
        kind="message",
        sender_name=sender,
        sender_address=address,
        subject=subject,
        received_at=None,
        is_read=False,
        parent_folder_id="inbox",
    )


def texts(made: dict[str, Any]) -> list[str]:
    """Title and body, wherever the push service wants them."""
    said = made["data"] if "data" in made else made["aps"]["alert"]
    return [said[name] for name in ("title", "body") if name in said]


def test_sender_subject_and_badge_stand_where_docs_say() -> None:
    news = News(REF, content_of(item("Ben Baker", "Lunch on Friday?")), 7)
    assert announcement("apns", news) == {
        "aps": {
            "alert": {"title": "Ben Baker", "body": "Lunch on Friday?"},
            "sound": "default",
            "badge": 7,
        },
        "ens": {"v": 1, "kind": "announcement", "item": REF},
    }
    assert announcement("fcm", news) == {
        "data": {
            "v": "1",
            "kind": "announcement",
            "item": REF,
            "title": "Ben Baker",
            "body": "Lunch on Friday?",
            "sound": "default",
            "badge": "7",
        }
    }


@pytest.mark.parametrize("service", SERVICES)
def test_without_content_it_is_new_mail_and_nothing_else(service: Service) -> None:
    assert texts(announcement(service, News(REF, None, None))) == ["New mail"]


@pytest.mark.parametrize("service", SERVICES)
@given(sender=st.text(max_size=6000), subject=st.text(max_size=6000))
def test_whatever_a_mail_says_the_payload_fits(service: Service, sender: str, subject: str) -> None:
    made = announcement(service, News(REF, content_of(item(sender, subject)), 2**31))
    assert size(made) <= MAX_PAYLOAD_BYTES
    assert all(texts(made))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("letter", ["a", "ä", "漢", "🙂", '"', "\\"])
def test_a_long_subject_is_cut_at_a_character_and_marked(service: Service, letter: str) -> None:
    made = announcement(service, News(REF, Content("Ben", letter * 5000), 1))
    assert MAX_PAYLOAD_BYTES - 16 <= size(made) <= MAX_PAYLOAD_BYTES
    assert set(texts(made)[1]) == {letter, "…"}


def test_an_emoji_made_of_several_leaves_no_loose_joiner() -> None:
    for offset in range(8):
        subject = "a" * offset + "👩\u200d👩\u200d👧\u200d👦" * 300
        body = texts(announcement("apns", News(REF, Content("Ben", subject), 1)))[1]
        assert not body.endswith("\u200d…")


def test_control_and_direction_characters_never_reach_a_lock_screen() -> None:
    content = content_of(item("B\u202een\x00\r\n X", "a\tb\u2066c"))
    assert (content.sender, content.subject) == ("Ben X", "a bc")


def test_an_address_stands_in_for_a_missing_name_and_words_for_a_missing_subject() -> None:
    content = content_of(item("", "  "))
    assert (content.sender, content.subject) == ("ben@example.com", "(no subject)")


def test_a_badge_correction_shows_and_sounds_nothing() -> None:
    shown = {"aps": {"badge": 6}, "ens": {"v": 1, "kind": "badge"}}
    assert badge_correction("apns", 6) == shown
    assert badge_correction("fcm", 6) == {"data": {"v": "1", "kind": "badge", "badge": "6"}}
