"""What a user proves himself with at a mail server. Nothing of it shows in a repr or an error."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

CredentialsType = Literal["basic", "ntlm", "negotiate", "oauth", "certificate"]

# What each type holds besides its name; what must be there comes first, what may be there second.
_MEMBERS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "basic": (frozenset({"username", "password"}), frozenset()),
    "ntlm": (frozenset({"username", "password"}), frozenset()),
    "negotiate": (frozenset({"username", "password"}), frozenset()),
    "oauth": (frozenset({"token", "expires_at"}), frozenset()),
    "certificate": (
        frozenset({"certificate", "expires_at"}),
        frozenset({"username", "password"}),
    ),
}
_MOST_PAIRS: Final = 32
# Claims that name the user of a token: Entra ID and AD FS, then RFC 9068.
_SUBJECTS: Final = ("oid", "sid", "upn", "unique_name", "sub")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One user's means to log in, of one type, with the fields of that type only.

    - `basic`: `username` and `password`, by whichever scheme the server offers;
    - `ntlm`, `negotiate`: the same, by that scheme only;
    - `oauth`: `token`, a bearer token (RFC 6750);
    - `certificate`: a client certificate, its issuers and its private key, in PEM; and where the
      server wants both, `username` and `password` for Basic.

    `expires_at` (Unix seconds) is when a token or certificate is of no use any more. `identity` are
    names and values that a gateway in front of the server knows the device by.
    """

    type: CredentialsType
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    expires_at: int | None = None
    identity: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def to_bytes(self) -> bytes:
        """As JSON in UTF-8, for sealing; halves of surrogate pairs become question marks."""
        needed, allowed = _MEMBERS[self.type]
        content: dict[str, Any] = {"type": self.type}
        for name in ("username", "password", "token", "certificate", "expires_at"):
            value = getattr(self, name)
            if name in needed or (name in allowed and value):
                content[name] = value
        if self.identity:
            content["identity"] = [list(pair) for pair in self.identity]
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(
            errors="replace"
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Credentials:
        """The opposite of `to_bytes`.

        Raises:
            ValueError: not credentials of a known type; the text tells nothing of them.
        """
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            raise ValueError("credentials malformed") from None
        if not isinstance(content, dict) or content.get("type") not in get_args(CredentialsType):
            raise ValueError("credentials malformed")
        identity = _pairs(content.pop("identity", []))
        needed, allowed = _MEMBERS[content["type"]]
        members = content.keys() - {"type"}
        well_formed = (
            members >= needed and members <= needed | allowed and all(map(_fits, content.items()))
        )
        if identity is None or not well_formed:
            raise ValueError("credentials malformed")
        return cls(**content, identity=identity)

    @property
    def has_password(self) -> bool:
        """Whether a directory would count a refusal of these, and lock the account after some."""
        return bool(self.username)

    @property
    def account(self) -> str:
        """What limits and refusals go by: the user name, or a hash that stands for one.

        That of a token is the same for every token of its user, where it tells who that is; but
        who that is nobody has verified. That of a certificate is the certificate's own.
        """
        if self.username:
            return self.username
        if self.type == "certificate":
            return f"certificate:{_hash(self.certificate)}"
        return f"token:{_hash(_subject(self.token) or self.token)}"

    def expired(self, now: float) -> bool:
        """Whether it is of no use any more at `now` (Unix seconds), and so must not be sent."""
        return self.expires_at is not None and self.expires_at <= now


def _fits(member: tuple[str, Any]) -> bool:
    name, value = member
    if name == "expires_at":
        return type(value) is int
    return isinstance(value, str)


def _pairs(raw: Any) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(raw, list) or len(raw) > _MOST_PAIRS:
        return None
    pairs: list[tuple[str, str]] = []
    for each in raw:
        match each:
            case [str(name), str(value)]:
                pairs.append((name, value))
            case _:
                return None
    return tuple(pairs)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def _subject(token: str) -> str:
    """Issuer and user that a JWT claims; empty for an opaque token."""
    try:
        body = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, IndexError, RecursionError):
        return ""
    if not isinstance(claims, dict):
        return ""
    named = next((claims[name] for name in _SUBJECTS if isinstance(claims.get(name), str)), "")
    return f"{claims.get('iss')} {named}" if named else ""
