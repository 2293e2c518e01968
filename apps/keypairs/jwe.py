"""The one form of JWE that a device may send: checked to the letter before any key is touched.

Compact serialization (RFC 7516, section 7.1), RSA-OAEP-256 with A256GCM (RFC 7518), at most
24 KiB. joserfc decrypts; what it would accept beyond that never reaches it.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

# A client certificate of 8 KiB, encoded twice, and what else a device tells.
MAX_CHARACTERS = 24576
_ALG, _ENC = "RSA-OAEP-256", "A256GCM"
_ALLOWED = {"alg", "enc", "kid", "typ", "cty"}
_REQUIRED = {"alg", "enc", "kid"}
# A nonce of 12 bytes and a whole tag of 16: GCM would work, badly, with others.
_COMPACT = re.compile(
    r"([A-Za-z0-9_-]{1,1024})\.[A-Za-z0-9_-]{1,1024}\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+"
    r"\.[A-Za-z0-9_-]{22}"
)

Code = Literal[
    "jwe_malformed",
    "jwe_header_forbidden",
    "jwe_unknown_key",
    "jwe_expired_key",
    "jwe_not_opened",
    "jwe_replayed",
    "jwe_stale",
]


class JweRefused(Exception):
    """The JWE is not accepted. `code` is all that anybody is told, its sender included."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code: Code = code


@dataclass(frozen=True, slots=True)
class Claims:
    """What a JWE held: its id (8 to 128 characters), its time (Unix seconds) and everything."""

    jti: str = field(repr=False)
    iat: int
    content: dict[str, Any] = field(repr=False)


def key_id(compact: str) -> str:
    """Check form, size and header of a JWE; returns the `kid` of its header.

    Raises:
        JweRefused: jwe_malformed, jwe_header_forbidden.
    """
    if len(compact) > MAX_CHARACTERS:
        raise JweRefused("jwe_malformed")
    form = _COMPACT.fullmatch(compact)
    if form is None:
        raise JweRefused("jwe_malformed")
    header = _parse(_decode(form[1]))
    if not header.keys() <= _ALLOWED:
        raise JweRefused("jwe_header_forbidden")
    if not header.keys() >= _REQUIRED or not all(isinstance(v, str) for v in header.values()):
        raise JweRefused("jwe_malformed")
    if header["alg"] != _ALG or header["enc"] != _ENC:
        raise JweRefused("jwe_header_forbidden")
    kid: str = header["kid"]
    return kid


def decrypt(compact: str, key: RSAKey) -> Claims:
    """Open a JWE whose header was checked.

    Whatever goes wrong in the decryption (padding, key length, tag) gets one code: which step
    it was would be an oracle. The plaintext's faults are its maker's own, and get another.

    Raises:
        JweRefused: jwe_not_opened, jwe_malformed.
    """
    try:
        plaintext = jwe.decrypt_compact(compact, key, algorithms=[_ALG, _ENC]).plaintext
    except (JoseError, ValueError, AssertionError):
        raise JweRefused("jwe_not_opened") from None
    content = _parse(plaintext or b"")
    jti, iat = content.get("jti"), content.get("iat")
    if not isinstance(jti, str) or not 8 <= len(jti) <= 128 or type(iat) is not int:
        raise JweRefused("jwe_malformed")
    return Claims(jti=jti, iat=iat, content=content)


def _decode(segment: str) -> bytes:
    try:
        content = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise JweRefused("jwe_malformed") from None
    if urlsafe_b64encode(content).rstrip(b"=").decode("ascii") != segment:
        raise JweRefused("jwe_malformed")  # spare bits that are not zero
    return content


def _parse(content: bytes) -> dict[str, Any]:
    """Read a JSON object in which no name stands twice and all text can be stored."""
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_no_name_twice, parse_constant=_refuse
        )
        _check_text(value)
    except (ValueError, RecursionError):
        raise JweRefused("jwe_malformed") from None
    if not isinstance(value, dict):
        raise JweRefused("jwe_malformed")
    return value


def _check_text(value: Any) -> None:
    """Lone surrogates can't be encoded and PostgreSQL stores no NUL: both end here, not later."""
    if isinstance(value, str):
        value.encode("utf-8")
        if "\0" in value:
            raise ValueError
    elif isinstance(value, dict):
        for name, content in value.items():
            _check_text(name)
            _check_text(content)
    elif isinstance(value, list):
        for content in value:
            _check_text(content)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _refuse(_constant: str) -> NoReturn:
    raise ValueError
