"""What an app's notification service does with an encrypted push: decrypt, verify, believe.

As docs/device-api.md tells it. Whatever is wrong with a push, it says nothing of its own.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

_ALG, _ENC, _TYPE = "ECDH-ES", "A256GCM", "ens+jwe"
# Apple and Google keep a push for a day; a phone's clock may be off.
_OLDEST_S: Final = 2 * 86400
_AHEAD_S: Final = 600


class NotGenuine(Exception):
    """The organization has not sent this, or not to this device."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What the organization told this device and nobody else."""

    sender: str = field(default="", repr=False)
    subject: str = field(default="", repr=False)
    preview: str = field(default="", repr=False)
    thread: str = ""


class ContentKey:
    """A P-256 key whose private half never leaves the phone."""

    def __init__(self, private_jwk: dict[str, str] | None = None) -> None:
        self._key = (
            ECKey.import_key(dict(private_jwk)) if private_jwk else ECKey.generate_key("P-256")
        )
        # RFC 7638: by this the phone knows which of its keys a push was encrypted to.
        self.kid = str(self._key.thumbprint())

    @property
    def public_jwk(self) -> dict[str, Any]:
        """What ENS is given."""
        return dict(self._key.as_dict(private=False))

    @property
    def private_jwk(self) -> dict[str, Any]:
        """For tests that search for it where it must not be."""
        return dict(self._key.as_dict(private=True))

    def decrypt(self, enc: str) -> str:
        """The compact JWS in a JWE; raises NotGenuine."""
        if _header(enc) != {"alg": _ALG, "enc": _ENC, "typ": _TYPE, "kid": self.kid}:
            raise NotGenuine
        try:
            found = jwe.decrypt_compact(enc, self._key, algorithms=[_ALG, _ENC]).plaintext
            return (found or b"").decode().rstrip(" ")
        except (JoseError, ValueError, TypeError, KeyError):
            raise NotGenuine from None


def open_push(
    enc: str,
    item: str,
    keys: dict[str, ContentKey],
    signing_keys: dict[str, Any],
    device_id: str,
    now: float | None = None,
) -> Opened:
    """Open the `enc` of an announcement of `item`.

    `keys` are the phone's by their `kid`, `signing_keys` the JWK Set that ENS gave last.

    Raises:
        NotGenuine: whatever is wrong with it.
    """
    key = keys.get(str(_header(enc).get("kid")))
    if key is None:
        raise NotGenuine
    claims = _verified(key.decrypt(enc), signing_keys)
    age = (time.time() if now is None else now) - _number(claims.get("iat"))
    told = (claims.get("v"), claims.get("dev"), claims.get("item"))
    if told != (1, device_id, item) or not -_AHEAD_S <= age <= _OLDEST_S:
        raise NotGenuine
    said = {name: claims.get(name, "") for name in ("sender", "subject", "preview", "thread")}
    if not all(isinstance(text, str) for text in said.values()):
        raise NotGenuine
    return Opened(**said)


def _verified(compact: str, signing_keys: dict[str, Any]) -> dict[str, Any]:
    try:
        trusted = KeySet.import_key_set(signing_keys)  # type: ignore[arg-type]
        signed = jws.deserialize_compact(compact, trusted, algorithms=["ES256"])
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError, KeyError):
        raise NotGenuine from None
    if not isinstance(claims, dict):
        raise NotGenuine
    return claims


def _header(enc: str) -> dict[str, Any]:
    """The protected header without `epk`, which the library checks."""
    segment = enc.partition(".")[0]
    try:
        found = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except ValueError:
        raise NotGenuine from None
    if not isinstance(found, dict):
        raise NotGenuine
    found.pop("epk", None)
    return found


def _number(value: Any) -> float:
    return float(value) if type(value) is int else 0.0
