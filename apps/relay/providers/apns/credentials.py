"""An iOS app's credentials as they are sealed: JSON with a `kind`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache

from apps.relay.providers.apns.token import SigningKey


@dataclass(frozen=True, slots=True)
class Certificate:
    """A push certificate with its issuers and its private key, all in PEM."""

    pem: bytes = field(repr=False)


def pack_key(key: SigningKey) -> bytes:
    """A provider key as `OpenApp.credentials`."""
    content = {
        "kind": "token",
        "key_id": key.key_id,
        "team_id": key.team_id,
        "key": key.p8.decode("ascii"),
    }
    return json.dumps(content).encode()


def pack_certificate(certificate: Certificate) -> bytes:
    """A push certificate as `OpenApp.credentials`."""
    return json.dumps({"kind": "certificate", "pem": certificate.pem.decode("ascii")}).encode()


@lru_cache(maxsize=256)
def read_credentials(credentials: bytes) -> SigningKey | Certificate:
    """What one of the others packed."""
    content = json.loads(credentials)
    if content["kind"] == "certificate":
        return Certificate(content["pem"].encode())
    return SigningKey(content["key_id"], content["team_id"], content["key"].encode())
