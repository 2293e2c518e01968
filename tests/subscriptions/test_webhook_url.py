"""The URL that Exchange calls."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.subscriptions import webhook_url


@given(st.uuids())
def test_a_name_is_22_characters_and_leads_back(made: uuid.UUID) -> None:
    name = webhook_url.name_of(made)
    assert len(name) == 22
    assert webhook_url.id_of(name) == made


@pytest.mark.parametrize("name", ["", "short", "x" * 22, "AAAAAAAAAAAAAAAAAAAAAB", "é" * 22])
def test_what_is_no_name_is_refused(name: str) -> None:
    # The second to last spells the same bytes as AAAA…AA: one id has one name.
    with pytest.raises(ValueError):
        webhook_url.id_of(name)


@pytest.mark.django_db
def test_the_longest_url_is_as_long_as_exchange_allows() -> None:
    made = uuid.uuid4()
    room = webhook_url.room_for_credentials(made)
    url = webhook_url.form(made, "c" * room)
    assert len(url) == webhook_url.MAX_URL_LENGTH == 2082
    query = parse_qs(urlsplit(url).query)
    assert webhook_url.check(query["id"][0]) == made
    assert query["creds"] == ["c" * room]
    # http.sys refuses path segments over 260 characters.
    assert max(map(len, urlsplit(url).path.split("/"))) < 260
