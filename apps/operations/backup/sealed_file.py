"""The backup's file: a head that anybody may read, then parts that only the password opens.

`ENS-BACKUP-1`, a line of JSON (how the key is derived; not secret), then parts of at most 1 MiB,
each with its length in four bytes before it. A part is AES-256-GCM under a nonce of prefix, count
and a mark of the last one, with the head as associated data: no part can be changed, moved, left
out or added, and the end can't be cut off (the STREAM construction: https://eprint.iacr.org/2015/189).
"""

from __future__ import annotations

import hmac
import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apps.operations.password_key import CHECK_BYTES, N_READ, SALT_BYTES, N, P, R, derive

MAGIC: Final = b"ENS-BACKUP-1\n"
PART_BYTES: Final = 1024 * 1024
# A row is some kilobytes; a certificate or a long list of settings may be some hundred.
LONGEST_LINE: Final = 16 * 1024 * 1024
_LABEL: Final = "ens-backup check"
_TAG_BYTES: Final = 16
_PREFIX_BYTES: Final = 7
_LONGEST_HEAD: Final = 4096
_AT_ONCE: Final = 1024 * 1024


class BackupRefused(Exception):
    """A backup can't be made or read. The text is one line for an operator; `code`:

    `not_a_backup`, `unknown_version`, `wrong_password`, `tampered` (reading the file);
    `other_release`, `other_master_key`, `not_empty` (restoring it).
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Writer:
    """Writes lines of bytes, compressed and encrypted, into an open file; `close` ends it."""

    def __init__(self, file: BinaryIO, password: str) -> None:
        salt, prefix = os.urandom(SALT_BYTES), os.urandom(_PREFIX_BYTES)
        key, check = derive(password, salt, N, _LABEL)
        head = {
            "kdf": "scrypt", "n": N, "r": R, "p": P,
            "salt": _text(salt), "check": _text(check), "prefix": _text(prefix),
        }  # fmt: skip
        self._head = json.dumps(head).encode() + b"\n"
        self._cipher, self._prefix, self._count = AESGCM(key), prefix, 0
        self._packer = zlib.compressobj(6)
        self._waiting = bytearray()
        self._file = file
        file.write(MAGIC + self._head)

    def line(self, content: bytes) -> None:
        """Add a line."""
        self._waiting += self._packer.compress(content + b"\n")
        while len(self._waiting) > PART_BYTES:
            self._part(bytes(self._waiting[:PART_BYTES]), last=False)
            del self._waiting[:PART_BYTES]

    def close(self) -> None:
        """Write the last part; without it the file can't be read."""
        self._waiting += self._packer.flush()
        while len(self._waiting) > PART_BYTES:
            self._part(bytes(self._waiting[:PART_BYTES]), last=False)
            del self._waiting[:PART_BYTES]
        self._part(bytes(self._waiting), last=True)

    def _part(self, content: bytes, *, last: bool) -> None:
        nonce = _nonce(self._prefix, self._count, last=last)
        sealed = self._cipher.encrypt(nonce, content, self._head)
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)
        self._count += 1


class Reader:
    """Opens a file with its password; `lines` may be read again and again."""

    def __init__(self, file: BinaryIO, password: str) -> None:
        """Read the head.

        Raises:
            BackupRefused: `not_a_backup`, `unknown_version` or `wrong_password`.
        """
        self._file = file
        file.seek(0)
        magic = file.readline(len(MAGIC))
        if magic != MAGIC:
            if magic.startswith(MAGIC[:11]):
                raise BackupRefused("unknown_version", "a newer release made this backup")
            raise BackupRefused("not_a_backup", "this is no backup of ENS")
        self._head = file.readline(_LONGEST_HEAD)
        salt, check, n = self._read_head()
        self._start = file.tell()
        key, expected = derive(password, salt, n, _LABEL)
        if not hmac.compare_digest(expected, check):
            raise BackupRefused("wrong_password", "the password is wrong")
        self._cipher = AESGCM(key)

    def lines(self) -> Iterator[bytes]:
        """The lines, one after the other; memory is bounded, whatever the file holds.

        Raises:
            BackupRefused: `tampered`, possibly only after many lines.
        """
        waiting = b""
        for piece in self._unpacked():
            *whole, waiting = (waiting + piece).split(b"\n")
            yield from whole
            if len(waiting) > LONGEST_LINE:
                raise _tampered()
        if waiting:
            raise _tampered()

    def _read_head(self) -> tuple[bytes, bytes, int]:
        refused = BackupRefused("not_a_backup", "this is no backup of ENS")
        try:
            head = json.loads(self._head)
            salt, check = b64decode(head["salt"]), b64decode(head["check"])
            self._prefix = b64decode(head["prefix"])
            cost = (head["kdf"], head["r"], head["p"])
            n = head["n"]
        except (ValueError, TypeError, KeyError):
            raise refused from None
        lengths = (len(salt), len(check), len(self._prefix))
        if cost != ("scrypt", R, P) or type(n) is not int or n not in N_READ:
            raise refused
        if lengths != (SALT_BYTES, CHECK_BYTES, _PREFIX_BYTES):
            raise refused
        return salt, check, n

    def _unpacked(self) -> Iterator[bytes]:
        unpacker: Any = zlib.decompressobj()
        try:
            for part in self._parts():
                content = part
                while content:
                    yield unpacker.decompress(content, _AT_ONCE)
                    content = unpacker.unconsumed_tail
            yield unpacker.flush()
        except zlib.error:
            raise _tampered() from None
        if not unpacker.eof or unpacker.unused_data:
            raise _tampered()

    def _parts(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        count, last = 0, False
        length = self._file.read(4)
        while not last:
            size = int.from_bytes(length, "big")
            if len(length) != 4 or size > PART_BYTES + _TAG_BYTES:
                raise _tampered()
            sealed = self._file.read(size)
            length = self._file.read(4)
            last = not length
            try:
                nonce = _nonce(self._prefix, count, last=last)
                yield self._cipher.decrypt(nonce, sealed, self._head)
            except (InvalidTag, ValueError):
                raise _tampered() from None
            count += 1


def _tampered() -> BackupRefused:
    return BackupRefused(
        "tampered", "the password is right, but the file was changed or cut after it was made"
    )


def _nonce(prefix: bytes, count: int, *, last: bool) -> bytes:
    return prefix + count.to_bytes(4, "big") + bytes((last,))


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
