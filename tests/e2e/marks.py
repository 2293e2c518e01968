"""Searches files and answers for marked secrets, whatever they may have been encoded in."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import ahocorasick

# Shorter pieces would be found by chance.
SHORTEST = 10


@dataclass(frozen=True, order=True)
class Finding:
    """A mark that stands where it must not; `encoding` says in which clothes."""

    place: str
    mark: str
    encoding: str


class Searcher:
    """Looks for marks (name: secret), ignoring case, in every encoding of `encodings`."""

    def __init__(self, marks: Mapping[str, str]) -> None:
        # Thousands of patterns in one pass; bytes as Latin-1, since it searches text.
        self._automaton = ahocorasick.Automaton()
        for mark, secret in marks.items():
            for encoding, pattern in encodings(secret):
                word = pattern.lower().decode("latin-1")
                meant = self._automaton.get(word, frozenset()) | {(mark, encoding)}
                self._automaton.add_word(word, meant)
        self._automaton.make_automaton()

    def in_bytes(self, content: bytes, place: str) -> set[Finding]:
        """Every mark in some bytes."""
        text = content.lower().decode("latin-1")
        return {
            Finding(place, mark, encoding)
            for _, meant in self._automaton.iter(text)
            for mark, encoding in meant
        }

    def in_folder(self, folder: Path) -> set[Finding]:
        """Every mark in the files below a folder, their names, and the cells of its databases.

        Raises:
            AssertionError: there is not a single file to search.
        """
        found: set[Finding] = set()
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        assert files, folder
        for file in files:
            place = str(file.relative_to(folder))
            found |= self.in_bytes(place.encode(), f"name of {place}")
            # A broker's message may be taken between the look and the reading.
            with suppress(FileNotFoundError):
                found |= self.in_bytes(file.read_bytes(), place)
            if file.suffix == ".sqlite3":
                found |= self._in_cells(file, place)
        return found

    def _in_cells(self, file: Path, place: str) -> set[Finding]:
        """A long value stands in pieces in the file; here it is whole."""
        found: set[Finding] = set()
        for table, cell in cells(file):
            found |= self.in_bytes(cell, f"{place}, {table}")
        return found


def cells(file: Path) -> Iterator[tuple[str, bytes]]:
    """The tables of an SQLite database and, table by table, what stands in their cells."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in names:
            for row in database.execute(f'SELECT * FROM "{table}"').fetchall():
                for cell in row:
                    yield table, cell if isinstance(cell, bytes) else str(cell).encode()


def encodings(secret: str) -> set[tuple[str, bytes]]:
    """What a secret looks like in plain and in every encoding, with the name of that."""
    found: set[tuple[str, bytes]] = set()
    # Case matters where what is encoded was changed before.
    for text in {secret, secret.lower(), secret.upper()}:
        found |= _text_encodings(text)
    with suppress(ValueError):
        found |= _binary_encodings("decoded hex, ", bytes.fromhex(secret))
    return {(name, pattern) for name, pattern in found if len(pattern) >= SHORTEST}


def _text_encodings(text: str) -> set[tuple[str, bytes]]:
    plain = text.encode()
    every_byte = "".join(f"%{byte:02x}" for byte in plain)
    found = {
        ("URL-encoded", quote(text, safe="").encode()),
        ("URL-encoded", quote_plus(text).encode()),
        ("URL-encoded", quote(text).encode()),
        ("URL-encoded", every_byte.encode()),
        ("JSON-escaped", json.dumps(text)[1:-1].encode()),
        ("JSON-escaped", json.dumps(text)[1:-1].replace("/", "\\/").encode()),
        ("JSON-escaped", json.dumps(text, ensure_ascii=False)[1:-1].encode()),
        ("JSON-escaped", "".join(f"\\u{ord(sign):04x}" for sign in text).encode()),
        ("escaped by Python", repr(text)[1:-1].encode()),
        ("escaped by Python", repr(plain)[2:-1].encode()),
        ("XML-escaped", escape(text, {'"': "&quot;", "'": "&#x27;"}).encode()),
    }
    found |= _binary_encodings("", plain)
    for name in ("UTF-16LE", "UTF-16BE"):
        found |= _binary_encodings(f"{name}, ", text.encode(name))
    return found


def _binary_encodings(before: str, data: bytes) -> set[tuple[str, bytes]]:
    """The bytes as they are, in hex, and in base64 at each of the three alignments."""
    found = {(f"{before}plain", data), (f"{before}hex", data.hex().encode())}
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + data)
        # What shares a character with neighbours we don't know is cut off at both ends.
        first = -(-shift * 8 // 6)
        last = (shift + len(data)) * 8 // 6
        inner = whole[first:last]
        found.add((f"{before}base64", inner))
        found.add((f"{before}base64", inner.translate(bytes.maketrans(b"+/", b"-_"))))
    return found
