"""An iOS app's credentials as they are sealed: JSON with a `kind`."""

from __future__ import annotations

import json
from functools import lru_cache

from apps.relay.providers.apns.token import SigningKey


def pack_key(key: SigningKey) -> bytes:
    """A provider key as `OpenApp.credentials`."""
    content = {
        "kind": "token",
        "key_id": key.key_id,
        "team_id": key.team_id,
        "key": key.p8.decode("ascii"),
    }
    return json.dumps(content).encode()


@lru_cache(maxsize=256)
def read_credentials(credentials: bytes) -> SigningKey:
    """What `pack_key` packed."""
    content = json.loads(credentials)
    return SigningKey(content["key_id"], content["team_id"], content["key"].encode())
