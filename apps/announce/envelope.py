"""Sender and subject for one phone's eyes: signed by the organization, encrypted to the phone.

A compact JWS (RFC 7515, ES256) inside a compact JWE (RFC 7516, ECDH-ES on P-256, A256GCM). The
relay, Apple and Google can neither read it nor make one; docs/device-api.md shows how it is opened.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from joserfc import jwe
from joserfc.jwk import ECKey

from apps.keypairs.signing import Signer

VERSION: Final = 1
TYPE: Final = "ens+jwe"
_ALG, _ENC = "ECDH-ES", "A256GCM"
_KEYS_LOADED_AT_MOST: Final = 50_000
# The plaintext's length tells no more than in which of these steps it is.
_PADDED_TO: Final = 256
_COORDINATE: Final = 43  # 32 bytes in base64url
_SIGNATURE: Final = 86  # 64 bytes
_NONCE, _TAG = 16, 22


@dataclass(frozen=True, slots=True)
class _ContentKey:
    kid: str
    key: ECKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One phone's way to be told what nobody else may read.

    `content_key` is the phone's public JWK as JSON.
    """

    device_id: uuid.UUID
    content_key: str = field(repr=False)
    signer: Signer

    def seal(self, claims: bytes) -> str:
        """Sign and encrypt what `claims` made; 200 µs of CPU.

        Raises:
            ValueError, joserfc.errors.JoseError: the content key is none.
        """
        signed = self.signer.sign(claims).encode()
        padded = signed.ljust(-(-len(signed) // _PADDED_TO) * _PADDED_TO)
        recipient = _content_key(self.content_key)
        header = {"alg": _ALG, "enc": _ENC, "kid": recipient.kid, "typ": TYPE}
        return jwe.encrypt_compact(header, padded, recipient.key, algorithms=[_ALG, _ENC])

    def claims(self, item: str, said: dict[str, str]) -> bytes:
        """What is signed: for which phone, of which item, when, and what is `said` of it."""
        content: dict[str, Any] = {
            "v": VERSION,
            "dev": str(self.device_id),
            "item": item,
            "iat": int(time.time()),
        }
        return json.dumps(content | said, ensure_ascii=False, separators=(",", ":")).encode()

    def room(self, characters: int) -> int:
        """How many bytes of claims fit into so many characters of JWE."""
        plaintext = (characters - _JWE_FRAME) * 3 // 4 // _PADDED_TO * _PADDED_TO
        return (plaintext - _jws_frame(self.signer.kid)) * 3 // 4


def _characters(size: int) -> int:
    """How long so many bytes are in base64url without padding."""
    return -(-size * 4 // 3)


@lru_cache(maxsize=8)
def _jws_frame(kid: str) -> int:
    header = json.dumps({"alg": "ES256", "kid": kid}, separators=(",", ":"))
    return _characters(len(header)) + _SIGNATURE + len("..")


def _jwe_frame() -> int:
    text = "x" * _COORDINATE
    epk = {"crv": "P-256", "x": text, "y": text, "kty": "EC"}
    header = {"alg": _ALG, "enc": _ENC, "kid": text, "typ": TYPE, "epk": epk}
    size = len(json.dumps(header, separators=(",", ":")))
    return _characters(size) + _NONCE + _TAG + len("....")


_JWE_FRAME: Final = _jwe_frame()


@lru_cache(maxsize=_KEYS_LOADED_AT_MOST)
def _content_key(jwk: str) -> _ContentKey:
    """A phone's key, checked to be a point of the curve; that costs, so it is done once."""
    key = ECKey.import_key(json.loads(jwk))
    # OpenSSL's own form of the key is made here and kept by the library.
    if key.curve_name != "P-256" or key.is_private:
        raise ValueError("not a public key on P-256")
    return _ContentKey(key.thumbprint(), key)
