"""What a phone is sent stays within Apple's limits and says no more than it may."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.announce.payload import (
    MAX_PAYLOAD_BYTES,
    Content,
    announcement,
    badge_correction,
    content_of,
    narrowed,
)
from apps.exchange.interface import Item

REF = "0" * 32


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


def test_sender_subject_and_badge_stand_where_docs_say() -> None:
    made = announcement(content_of(item("Ben Baker", "Lunch on Friday?")), 7, REF)
    assert made == {
        "aps": {
            "alert": {"title": "Ben Baker", "body": "Lunch on Friday?"},
            "sound": "default",
            "badge": 7,
        },
        "ens": {"v": 1, "kind": "announcement", "item": REF},
    }


def test_without_content_it_is_new_mail_and_nothing_else() -> None:
    made = announcement(None, None, REF)
    assert made["aps"] == {"alert": {"title": "New mail"}, "sound": "default"}


@given(st.text(max_size=6000), st.text(max_size=6000))
def test_whatever_a_mail_says_the_payload_fits(sender: str, subject: str) -> None:
    made = announcement(content_of(item(sender, subject)), 2**31, REF)
    assert size(made) <= MAX_PAYLOAD_BYTES
    assert made["aps"]["alert"]["title"]


@pytest.mark.parametrize("letter", ["a", "ä", "漢", "🙂", '"', "\\"])
def test_a_long_subject_is_cut_at_a_character_and_marked(letter: str) -> None:
    made = announcement(Content("Ben", letter * 5000), 1, REF)
    body = made["aps"]["alert"]["body"]
    assert MAX_PAYLOAD_BYTES - 16 <= size(made) <= MAX_PAYLOAD_BYTES
    assert set(body) == {letter, "…"}


def test_control_and_direction_characters_never_reach_a_lock_screen() -> None:
    content = content_of(item("B\u202een\x00\r\n X", "a\tb\u2066c"))
    assert (content.sender, content.subject) == ("Ben X", "a bc")


def test_an_address_stands_in_for_a_missing_name_and_words_for_a_missing_subject() -> None:
    content = content_of(item("", "  "))
    assert (content.sender, content.subject) == ("ben@example.com", "(no subject)")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", None),
        ("generic", None),
        ("sender", Content("Ben", "")),
        ("sender_subject", Content("Ben", "Lunch")),
    ],
)
def test_a_level_narrows_the_content(level: str, expected: Content | None) -> None:
    assert narrowed(Content("Ben", "Lunch"), level) == expected


def test_a_badge_correction_shows_and_sounds_nothing() -> None:
    assert badge_correction(6) == {"aps": {"badge": 6}, "ens": {"v": 1, "kind": "badge"}}
