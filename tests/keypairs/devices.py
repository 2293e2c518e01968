"""What a device does: it encrypts to a public JWK, with nothing but `cryptography`."""

from __future__ import annotations

import json
import os
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

OAEP_256 = OAEP(MGF1(hashes.SHA256()), hashes.SHA256(), None)


def b64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def rsa_key(jwk: dict[str, str]) -> RSAPublicKey:
    return RSAPublicNumbers(number(jwk["e"]), number(jwk["n"])).public_key()


def claims(**more: Any) -> dict[str, Any]:
    """The least that a JWE has to hold, and more."""
    return {"iat": int(time.time()), "jti": secrets.token_hex(8), **more}


def encrypt(
    jwk: dict[str, str],
    plaintext: dict[str, Any] | bytes,
    header: dict[str, Any] | bytes | None = None,
    cek: bytes | None = None,
    padding: Any = OAEP_256,
) -> str:
    """A compact JWE; header, content key and padding may be wrong ones."""
    if header is None:
        header = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": jwk["kid"]}
    content = plaintext if isinstance(plaintext, bytes) else json.dumps(plaintext).encode()
    protected = b64(header if isinstance(header, bytes) else json.dumps(header).encode())
    key = cek or os.urandom(32)
    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, content, protected.encode())
    parts = (rsa_key(jwk).encrypt(key, padding), nonce, sealed[:-16], sealed[-16:])
    return ".".join([protected, *map(b64, parts)])
