"""The provider token: a JWT signed with Apple's key, by which APNs knows whose app it is.

Apple takes a token for an hour and refuses it (TooManyProviderTokenUpdates) when it changes more
than once in 20 minutes. Several relay processes, restarted ones too, share a key, so the token is
a function of key and time alone: `iat` moves in steps of 40 minutes and the signature is
deterministic (RFC 6979), and they all arrive at the same token without talking to each other.

https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_STEP_S = 2400
# Apple's least time between two tokens, and a divisor of the usual step: whoever renews early
# still has either the usual token or one that is 20 minutes from it.
_EARLY_STEP_S = 1200
# Our clock may be ahead of Apple's: a token is never younger than this.
_LEAST_AGE_S = 60


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A provider key; `p8` is the content of Apple's `AuthKey_<key id>.p8`."""

    key_id: str
    team_id: str
    p8: bytes = field(repr=False)


def provider_token(key: SigningKey, now: float, *, early: bool = False) -> str:
    """The token to use at Unix time `now`, cached: between one and 41 minutes old.

    `early`: at most 21 minutes old, for when Apple calls the usual one expired.
    """
    step = _EARLY_STEP_S if early else _STEP_S
    issued_at = int(now - _LEAST_AGE_S) // step * step
    return _signed(key, issued_at)


@lru_cache(maxsize=256)
def _signed(key: SigningKey, issued_at: int) -> str:
    private = load_pem_private_key(key.p8, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)  # checked when the app was added
    header = _part({"alg": "ES256", "kid": key.key_id})
    claims = _part({"iss": key.team_id, "iat": issued_at})
    message = f"{header}.{claims}".encode()
    der = private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    return f"{header}.{claims}.{_base64url(r.to_bytes(32) + s.to_bytes(32))}"


def _part(content: dict[str, str | int]) -> str:
    return _base64url(json.dumps(content, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
