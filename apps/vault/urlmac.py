"""URL MACs: how the webhook knows our own URLs without asking the database.

A MAC is HMAC-SHA-256 cut to 128 bits (RFC 2104, section 5), 22 characters of base64url. It names
its key, so a new key can be added while URLs under the old ones are still at Exchange.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from base64 import urlsafe_b64encode

from apps.vault import keys
from apps.vault.models import VaultKey

RELOAD_SECONDS = 5.0
_MAC_BYTES = 16


class KeyRing:
    """The URL MAC keys as one process knows them, by key id."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._newest = ""
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def newest(self) -> tuple[str, bytes]:
        """The key to sign with, and its id."""
        if not self._newest:
            self._load()
        return self._newest, self._keys[self._newest]

    def get(self, key_id: str) -> bytes | None:
        """The key of an id, or None.

        An unknown id may be a new key of another process or an attacker's invention: the
        database is asked at most once in `RELOAD_SECONDS`, whatever comes. Not so before the
        first answer: a process that starts while the database is away refuses nobody for it.
        """
        key = self._keys.get(key_id)
        if key is not None:
            return key
        with self._lock:
            now = time.monotonic()
            due = not self._keys or now - self._asked >= RELOAD_SECONDS
            if due and key_id not in self._keys:
                self._asked = now
                self._load()
        return self._keys.get(key_id)

    def _load(self) -> None:
        found = keys.load(VaultKey.Kind.URL_MAC)
        self._keys = {str(number): key for number, key in found.items()}
        self._newest = str(max(found))


_ring = KeyRing()


def sign(message: str) -> tuple[str, str]:
    """Sign with the newest key; returns `(key_id, mac)`, both free of dots and URL-safe.

    Raises:
        VaultKeyMissing, UnwrapFailed, MasterKeyInvalid: the MAC key can't be had.
    """
    key_id, key = _ring.newest()
    return key_id, _mac(key, message)


def verify(message: str, key_id: str, mac: str) -> bool:
    """Whether `mac` is ours for `message` under that key, in constant time.

    Without a database query once the key is cached. Any strings may be handed in.

    Raises:
        VaultKeyMissing, UnwrapFailed, MasterKeyInvalid: the MAC keys can't be had.
    """
    key = _ring.get(key_id)
    if key is None or not mac.isascii():
        return False
    # The text is compared, not the bytes: base64 has several spellings of the same bytes.
    return hmac.compare_digest(_mac(key, message), mac)


def forget() -> None:
    """Read the keys anew when next needed (the database may have been flushed)."""
    global _ring
    _ring = KeyRing()


def _mac(key: bytes, message: str) -> str:
    # A query string may hold what UTF-8 can't say; it must fail to verify, not to encode.
    content = message.encode("utf-8", "surrogatepass")
    digest = hmac.digest(key, content, hashlib.sha256)[:_MAC_BYTES]
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
