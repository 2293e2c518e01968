"""Service accounts, and the access tokens they are given: who may send, for which project.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from apps.lab.fcm.answers import Answer, Refused

# What Google's own files name, wherever this server listens.
TOKEN_URI = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME_S = 3600
# By how much a clock may be ahead of Google's.
_AHEAD_S = 60


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account as Google's console hands it out; `file` is the content of its JSON file."""

    project_id: str
    client_email: str
    file: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Known:
    project_id: str
    public_key: rsa.RSAPublicKey


def new_account(project_id: str, bits: int = 2048) -> tuple[ServiceAccount, str]:
    """Make an account; returns it and its public key in PEM."""
    private = rsa.generate_private_key(65537, bits)
    email = f"push-{secrets.token_hex(4)}@{project_id}.iam.gserviceaccount.com"
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": secrets.token_hex(20),
        "private_key": pem.decode(),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**21)),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
        "universe_domain": "googleapis.com",
    }
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return ServiceAccount(project_id, email, json.dumps(content, indent=1)), public.decode()


class Accounts:
    """The accounts Google knows and the access tokens it gave them.

    Attributes:
        issued: how many access tokens were given so far.
    """

    def __init__(self) -> None:
        self.issued = 0
        self._known: dict[str, _Known] = {}
        self._tokens: dict[str, tuple[str, float]] = {}

    def add(self, project_id: str, client_email: str, public_pem: str) -> None:
        """Know an account; raises ValueError when its key isn't an RSA public key in PEM."""
        public = serialization.load_pem_public_key(public_pem.encode())
        if not isinstance(public, rsa.RSAPublicKey):
            raise ValueError("a service account's key is an RSA key")
        self._known[client_email] = _Known(project_id, public)

    def revoke_tokens(self) -> None:
        """No access token is good any more; new ones are given."""
        self._tokens.clear()

    def give_token(self, body: bytes, now: float) -> Answer:
        """Answer a request for an access token; raises Refused."""
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        if form.get("grant_type") != GRANT:
            raise Refused("unsupported_grant_type")
        account = self._account(form.get("assertion", ""), now)
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._tokens[token] = (account.project_id, now + LIFETIME_S)
        self.issued += 1
        found = {"access_token": token, "expires_in": LIFETIME_S - 1, "token_type": "Bearer"}
        return Answer(200, found)

    def project_of(self, authorization: str, now: float) -> str:
        """The project an access token is good for; raises Refused."""
        scheme, _, token = authorization.partition(" ")
        project, until = self._tokens.get(token, ("", 0.0))
        if scheme.lower() != "bearer" or now >= until:
            raise Refused("UNAUTHENTICATED", "Request had invalid authentication credentials.")
        return project

    def _account(self, assertion: str, now: float) -> _Known:
        try:
            head, body, signature = assertion.split(".")
            header, claims, raw = _object(head), _object(body), _decode(signature)
        except ValueError:
            raise Refused("invalid_request", "Bad JWT.") from None
        known = self._known.get(str(claims.get("iss")))
        if known is None or header.get("alg") != "RS256":
            raise Refused("invalid_grant", "Invalid grant: account not found")
        try:
            message = f"{head}.{body}".encode()
            known.public_key.verify(raw, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refused("invalid_grant", "Invalid JWT Signature.") from None
        _check_claims(claims, now)
        return known


def _check_claims(claims: dict[str, Any], now: float) -> None:
    issued, expires = claims.get("iat"), claims.get("exp")
    if claims.get("aud") != TOKEN_URI:
        raise Refused("invalid_grant", "Invalid JWT: Failed audience check.")
    if SCOPE not in str(claims.get("scope", "")).split():
        raise Refused("invalid_scope")
    timely = (
        isinstance(issued, int)
        and isinstance(expires, int)
        and issued <= now + _AHEAD_S
        and now < expires <= issued + LIFETIME_S
    )
    if not timely:
        text = "Invalid JWT: Token must be a short-lived token (60 minutes)"
        raise Refused("invalid_grant", text)


def _decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _object(part: str) -> dict[str, Any]:
    found = json.loads(_decode(part))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
