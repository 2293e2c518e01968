from __future__ import annotations

import json
import traceback

import pytest

from apps.exchange.interface import Credentials, Endpoint, Item


def test_credentials_survive_the_trip() -> None:
    credentials = Credentials("basic", "EXAMPLE\\ännä", 'p"w: \U0001f511')
    assert Credentials.from_bytes(credentials.to_bytes()) == credentials
    assert json.loads(credentials.to_bytes())["type"] == "basic"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hush",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"type":"basic","username":"hush"}',
        b'{"type":"basic","username":"hush","password":7}',
        b'{"type":"ntlm","username":"hush","password":"hush"}',
        b'{"type":"basic","username":"hush","password":"hush","more":1}',
        b"[" * 100_000,
    ],
)
def test_malformed_credentials(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^credentials malformed$") as caught:
        Credentials.from_bytes(raw)
    lines = traceback.format_exception_only(caught.value)
    assert "hush" not in "".join(lines)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_half_a_surrogate_pair_is_no_crash() -> None:
    raw = Credentials("basic", "anna", "a\ud800").to_bytes()
    assert Credentials.from_bytes(raw).password == "a?"


def test_reprs_tell_nothing() -> None:
    item = Item("id", "message", "hush", "hush", "hush", None, False, "folder")
    shown = repr([Credentials("basic", "hush", "hush"), Endpoint("https://x/", "hush"), item])
    assert "hush" not in shown
