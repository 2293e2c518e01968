"""Wrapping: how a secret is stored so that only the master key opens it, and only in its place.

A blob is `version (1 byte) | length of the key id (1 byte) | key id | nonce (12 bytes) |
AES-256-GCM ciphertext and tag`. Table, row and purpose are authenticated with it, so a blob that
somebody copies to another row or column does not open there. Nonces are random: one master key
is good for 2^32 wraps (NIST SP 800-38D, section 8.3), a thousand a second for seven weeks; what is
wrapped here (a key a subscription, a key pair an OG) comes thousands of times more rarely.
"""

from __future__ import annotations

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apps.vault.master import master_keys

_VERSION = 1
_NONCE_BYTES = 12


class UnwrapFailed(Exception):
    """The blob does not open: damaged, out of its place, or under an unknown master key."""


def wrap(secret: bytes, *, table: str, row: str, purpose: str) -> bytes:
    """Encrypt a secret under the current master key for one place in the database.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    keys = master_keys()
    key_id = keys.current_id
    name = key_id.encode("ascii")
    nonce = os.urandom(_NONCE_BYTES)
    sealed = _cipher(keys.keys[key_id]).encrypt(nonce, secret, _place(table, row, purpose))
    return bytes((_VERSION, len(name))) + name + nonce + sealed


def unwrap(blob: bytes | memoryview, *, table: str, row: str, purpose: str) -> bytes:
    """Open a blob with whichever master key wrapped it.

    Raises:
        UnwrapFailed: it doesn't open; the text never says more than which key id is missing.
        MasterKeyInvalid: there is no usable master key file.
    """
    blob = bytes(blob)
    if len(blob) < 2 or blob[0] != _VERSION:
        raise UnwrapFailed("not a wrapped secret")
    start = 2 + blob[1]
    key_id = key_id_of(blob)
    key = master_keys().keys.get(key_id)
    if key is None:
        raise UnwrapFailed(f"the master key file has no key {key_id!r}")
    nonce, sealed = blob[start : start + _NONCE_BYTES], blob[start + _NONCE_BYTES :]
    try:
        return _cipher(key).decrypt(nonce, sealed, _place(table, row, purpose))
    except (InvalidTag, ValueError):
        raise UnwrapFailed("damaged, or not in its place") from None


def key_id_of(blob: bytes | memoryview) -> str:
    """Which master key wrapped a blob; empty for what is none."""
    head = bytes(blob[:34])
    if len(head) < 2 or head[0] != _VERSION:
        return ""
    return head[2 : 2 + head[1]].decode("ascii", "replace")


@lru_cache(maxsize=16)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def _place(*parts: str) -> bytes:
    """Join names so that no two places share one encoding."""
    encoded = [part.encode("utf-8") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
