"""The searcher itself: it finds a planted mark in every encoding, and nothing where none is."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.e2e.marks import Searcher

SECRET = 'Pä55/w+rd & "q" Canary?~>'
HEX = "0f" * 8 + "a1b2c3d4e5f60718"

PLANTED: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "upper case": lambda text: text.upper().encode(),
    "lower case": lambda text: text.lower().encode(),
    "swapped case": lambda text: text.swapcase().encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "upper-case hex": lambda text: text.encode().hex().upper().encode(),
    "UTF-16LE": lambda text: text.encode("utf-16-le"),
    "UTF-16BE": lambda text: text.encode("utf-16-be"),
    "UTF-16 with its mark": lambda text: text.encode("utf-16"),
    "base64 of UTF-16": lambda text: base64.b64encode(b"x" + text.encode("utf-16-le") + b"yz"),
    "base64 of lower case": lambda text: base64.b64encode(text.lower().encode() + b"!"),
    "URL-encoded": lambda text: quote(text, safe="").encode(),
    "URL-encoded in lower case": lambda text: quote(text, safe="").lower().encode(),
    "form-encoded": lambda text: urlencode({"a": text, "b": "c"}).encode(),
    "a path": lambda text: quote(text).encode(),
    "JSON": lambda text: json.dumps({"a": text}).encode(),
    "JSON in UTF-8": lambda text: json.dumps({"a": text}, ensure_ascii=False).encode(),
    "JSON, slashes escaped": lambda text: json.dumps(text).replace("/", "\\/").encode(),
    "a repr": lambda text: repr({"a": text}).encode(),
    "a repr of bytes": lambda text: repr(text.encode()).encode(),
    "HTML": lambda text: html.escape(text).encode(),
}
for shift in range(3):
    for after in range(3):
        for name, encode in (
            ("standard", base64.b64encode),
            ("urlsafe", base64.urlsafe_b64encode),
        ):

            def planted(
                text: str,
                encode: Callable[[bytes], bytes] = encode,
                shift: int = shift,
                after: int = after,
            ) -> bytes:
                return encode(b"#" * shift + text.encode() + b"#" * after)

            PLANTED[f"{name} base64, {shift} before, {after} after"] = planted


@pytest.mark.parametrize("how", PLANTED)
@pytest.mark.parametrize("secret", [SECRET, "plainname-4711", "anna.ümläut@example.com"])
def test_a_planted_mark_is_found(secret: str, how: str) -> None:
    content = b"before " + PLANTED[how](secret) + b" after"
    found = Searcher({"it": secret}).in_bytes(content, "here")
    assert {finding.mark for finding in found} == {"it"}


@pytest.mark.parametrize("shift", range(3))
def test_a_token_in_hexadecimal_is_found_as_bytes_and_their_base64(shift: int) -> None:
    searcher = Searcher({"token": HEX})
    raw = b"#" * shift + bytes.fromhex(HEX)
    for content in (raw, base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        assert searcher.in_bytes(content, "here")


def test_nothing_is_found_where_nothing_is() -> None:
    searcher = Searcher({"password": SECRET, "token": HEX})
    content = base64.b64encode(bytes(range(256)) * 40) + SECRET[:-3].encode() + HEX[2:].encode()
    assert searcher.in_bytes(content, "here") == set()


def test_a_folder_is_searched_to_the_bottom(tmp_path: Path) -> None:
    searcher = Searcher({"it": SECRET, "name": "plainname-4711"})
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "nothing.log").write_text("nothing")
    assert searcher.in_folder(tmp_path) == set()
    (tmp_path / "a" / "b" / "x.log").write_bytes(b"\xff\xfe" + SECRET.encode("utf-16-le"))
    (tmp_path / "a" / "plainname-4711").touch()
    found = {(finding.place, finding.mark) for finding in searcher.in_folder(tmp_path)}
    assert (str(Path("a", "b", "x.log")), "it") in found
    assert (f"name of {Path('a', 'plainname-4711')}", "name") in found


def test_databases_are_searched_with_what_is_not_yet_in_them(tmp_path: Path) -> None:
    file = tmp_path / "it.sqlite3"
    searcher = Searcher({"it": SECRET})
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE words (word)")
        assert searcher.in_folder(tmp_path) == set()
        # So long that the file keeps it in pieces, the mark across the edge of one.
        for before in range(4000, 4100, 4):
            database.execute("INSERT INTO words VALUES (?)", ["x" * before + SECRET])
        database.commit()
        places = {finding.place for finding in searcher.in_folder(tmp_path)}
    assert places >= {"it.sqlite3, words", "it.sqlite3-wal"}


def test_a_folder_without_files_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Searcher({"it": SECRET}).in_folder(tmp_path)
