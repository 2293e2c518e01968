"""The master key file: what stands outside the database and opens everything in it.

The file holds one key a line, `<id>:<base64 of 32 bytes>`; blank lines and lines beginning with
`#` are comments. The first key wraps what is stored from now on. The others, kept during a
rotation, still open what they once wrapped (DESIGN.md, section 4, "Keys").
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

log = logging.getLogger(__name__)

KEY_BYTES = 32
LOOK_AGAIN_S = 5.0
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


class _Watched:
    """The file as this process knows it: looked at every few seconds, read when it has changed.

    So a new key is known everywhere soon after the file was, and nothing has to be started again.
    A file that is being changed for the worse (gone, half copied) changes nothing here.
    """

    def __init__(self) -> None:
        self._known: MasterKeys | None = None
        self._looks: tuple[int, ...] = ()
        self._looked = 0.0

    def get(self) -> MasterKeys:
        now = time.monotonic()
        if self._known is not None and now - self._looked < LOOK_AGAIN_S:
            return self._known
        self._looked = now
        path: Path = settings.ENS.master_key_file
        looks = _looks(path)
        if self._known is not None and looks == self._looks:
            return self._known
        try:
            self._known = MasterKeys.load(path)
        except MasterKeyInvalid as error:
            if self._known is None:
                raise
            log.error("the master keys stay as they were: %s", error)
        self._looks = looks
        return self._known


_watched = _Watched()


def master_keys() -> MasterKeys:
    """The keys of `ENS_MASTER_KEY_FILE`, as they were at most `LOOK_AGAIN_S` ago.

    Raises:
        MasterKeyInvalid: the file can't be used, and never could in the life of this process.
    """
    return _watched.get()


def forget() -> None:
    """Read the file anew when next needed: this process has just changed it."""
    global _watched
    _watched = _Watched()


def fingerprint(key: bytes) -> str:
    """What a master key may be called in public: 16 hex characters that don't lead back to it."""
    return hmac.digest(key, b"ens master key fingerprint", hashlib.sha256).hex()[:16]


def _looks(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


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
