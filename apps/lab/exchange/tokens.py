"""Bearer tokens as an authorization server would issue them: JWTs (RFC 9068), signed by the lab."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Token:
    """What a device would get: the token, and when it ends (Unix seconds)."""

    token: str = field(repr=False)
    expires_at: int


class Tokens:
    """Issues and verifies. Times are real ones, as those of a certificate."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._revoked: set[str] = set()

    def issue(self, address: str, lifetime_s: float = 3600.0) -> Token:
        """A token of a mailbox's owner."""
        ends = int(time.time() + lifetime_s)
        claims = {
            "iss": "https://sts.lab.example",
            "aud": "https://mail.lab.example",
            "upn": address,
            "exp": ends,
            "jti": secrets.token_hex(8),
        }
        signed = f"{_encoded({'alg': 'HS256', 'typ': 'at+jwt'})}.{_encoded(claims)}"
        return Token(f"{signed}.{self._signature(signed)}", ends)

    def revoke(self, token: str) -> None:
        """Refuse a token from now on."""
        self._revoked.add(token)

    def owner(self, token: str) -> str | None:
        """The address of a token that is ours and holds; else None."""
        signed, _, signature = token.rpartition(".")
        right = hmac.compare_digest(self._signature(signed).encode(), signature.encode())
        if not right or token in self._revoked:
            return None
        body = signed.partition(".")[2]
        claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return str(claims["upn"]) if claims["exp"] > time.time() else None

    def _signature(self, signed: str) -> str:
        digest = hmac.new(self._key, signed.encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")


def _encoded(content: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
