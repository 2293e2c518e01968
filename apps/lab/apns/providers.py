"""Provider keys and the tokens made with them: who may push, and to which topics.

Apple's page:
https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from apps.lab.apns.answers import Refused

MAX_AGE_S = 3600
MIN_RENEWAL_S = 1200


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider's signing key as Apple hands it out; `p8` is the PEM of `AuthKey_<id>.p8`."""

    key_id: str
    team_id: str
    p8: str = field(repr=False)


@dataclass(slots=True)
class _Known:
    team_id: str
    public_key: ec.EllipticCurvePublicKey
    topics: frozenset[str]
    issued: set[int] = field(default_factory=set)


class Providers:
    """The keys APNs knows and the tokens it has seen under each."""

    def __init__(self) -> None:
        self._keys: dict[str, _Known] = {}
        self._verified: dict[str, tuple[_Known, int]] = {}

    def add(self, key_id: str, team_id: str, public_pem: bytes, topics: frozenset[str]) -> None:
        """Know a key; raises ValueError when it isn't a P-256 public key in PEM."""
        public = serialization.load_pem_public_key(public_pem)
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise ValueError("a provider key is a P-256 key")
        self._keys[key_id] = _Known(team_id, public, topics)
        self._verified.clear()

    def remove(self, key_id: str) -> None:
        """Know a key no longer, as after its revocation; raises KeyError when unknown."""
        del self._keys[key_id]
        self._verified.clear()

    def check(self, headers: Mapping[str, str], now: float) -> frozenset[str]:
        """The topics the caller may push to; raises Refused for a token Apple would refuse.

        A token is renewed too often when it was issued less than 20 minutes after another one
        under the same key. Providers that share a key may go on using one they all know.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("MissingProviderToken")
        if token not in self._verified:
            self._verified[token] = self._verify(token)
        known, issued_at = self._verified[token]
        if issued_at > now:
            raise Refused("InvalidProviderToken")
        if now - issued_at > MAX_AGE_S:
            del self._verified[token]
            raise Refused("ExpiredProviderToken")
        known.issued = {at for at in known.issued if now - at <= MAX_AGE_S}
        if any(0 < abs(issued_at - at) < MIN_RENEWAL_S for at in known.issued):
            raise Refused("TooManyProviderTokenUpdates")
        known.issued.add(issued_at)
        return known.topics

    def _verify(self, token: str) -> tuple[_Known, int]:
        try:
            head, claims, signature = token.split(".")
            header, content = _object(head), _object(claims)
            raw = _decode(signature)
        except ValueError:
            raise Refused("InvalidProviderToken") from None
        known = self._keys.get(str(header.get("kid")))
        issued_at = content.get("iat")
        if (
            header.get("alg") != "ES256"
            or known is None
            or content.get("iss") != known.team_id
            or not isinstance(issued_at, int)
            or isinstance(issued_at, bool)
            or not _signed(known.public_key, f"{head}.{claims}".encode(), raw)
        ):
            raise Refused("InvalidProviderToken")
        return known, issued_at


def _signed(key: ec.EllipticCurvePublicKey, message: bytes, raw: bytes) -> bool:
    if len(raw) != 64:
        return False
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    try:
        key.verify(der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _object(part: str) -> dict[str, Any]:
    found = json.loads(_decode(part))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
