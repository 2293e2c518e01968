"""The master key file: what stands outside the database and opens everything in it.

The file holds one key a line, `<id>:<base64 of 32 bytes>`; blank lines and lines beginning with
`#` are comments. The first key wraps what is stored from now on. The others, kept during a
rotation, still open what they once wrapped (DESIGN.md, section 4, "Keys").
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from django.conf import settings

KEY_BYTES = 32
_MAX_FILE_BYTES = 65536
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class MasterKeyInvalid(Exception):
    """The master key file can't be used; the text is one line without any key in it."""


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The keys of one master key file, 32 bytes each, by id."""

    current_id: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> MasterKeys:
        """Read and check a master key file.

        Raises:
            MasterKeyInvalid: it is missing, unreadable, malformed or holds no key.
        """
        keys: dict[str, bytes] = {}
        for number, line in enumerate(_text(path).splitlines(), start=1):
            content = line.strip()
            if not content or content.startswith("#"):
                continue
            where = f"master key file {path}, line {number}"
            key_id, key = _parse(content, where)
            if key_id in keys:
                raise MasterKeyInvalid(f"{where}: the key id {key_id!r} stands there twice")
            keys[key_id] = key
        if not keys:
            raise MasterKeyInvalid(f"master key file {path} holds no key")
        return cls(current_id=next(iter(keys)), keys=keys)


@cache
def master_keys() -> MasterKeys:
    """The keys of `ENS_MASTER_KEY_FILE`, read once in the life of a process.

    Raises:
        MasterKeyInvalid: the file can't be used.
    """
    return MasterKeys.load(settings.ENS.master_key_file)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MasterKeyInvalid(
            f"master key file {path} does not exist; `python manage.py ens_master_key` makes one"
        ) from None
    except OSError as error:
        raise MasterKeyInvalid(
            f"master key file {path} can't be read ({type(error).__name__})"
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise MasterKeyInvalid(f"master key file {path} is over {_MAX_FILE_BYTES} bytes")
    try:
        # An editor on Windows may have put a byte order mark in front.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MasterKeyInvalid(f"master key file {path} is not UTF-8 text") from None


def _parse(line: str, where: str) -> tuple[str, bytes]:
    key_id, colon, encoded = line.partition(":")
    if not colon or not _KEY_ID.fullmatch(key_id):
        raise MasterKeyInvalid(f"{where}: expected <id>:<base64>, the id of A-Z a-z 0-9 _ -")
    try:
        key = b64decode(encoded.strip(), validate=True)
    except ValueError:
        raise MasterKeyInvalid(f"{where}: the key is not base64") from None
    if len(key) != KEY_BYTES:
        raise MasterKeyInvalid(f"{where}: the key has {len(key)} bytes, expected {KEY_BYTES}")
    return key_id, key
