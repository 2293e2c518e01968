"""Lookup HMACs: how personal data is found again without being stored.

The lookup key never changes, not even with the master key: it would orphan every row.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache

from apps.vault import keys
from apps.vault.models import VaultKey


def lookup_hmac(domain: str, value: str | bytes) -> str:
    """HMAC-SHA-256 of a value, as 64 lower-case hex characters.

    `domain` says what the value is (`"mailbox"`, `"push_token"`): equal values of two domains
    have nothing in common.

    Raises:
        VaultKeyMissing, UnwrapFailed, MasterKeyInvalid: the lookup key can't be had.
    """
    name = domain.encode("utf-8")
    content = value.encode("utf-8") if isinstance(value, str) else value
    message = len(name).to_bytes(4, "big") + name + content
    return hmac.digest(_key(), message, hashlib.sha256).hex()


@cache
def _key() -> bytes:
    found = keys.load(VaultKey.Kind.LOOKUP)
    return found[min(found)]


def forget() -> None:
    """Read the key anew when next needed (the database may have been flushed)."""
    _key.cache_clear()
