"""What a mail server offers, and which of it is used.

WWW-Authenticate lists schemes (RFC 9110, section 11.6.1); Exchange sends one header for each. Each
virtual directory has its own: https://learn.microsoft.com/exchange/default-settings-for-exchange-virtual-directories-exchange-2013-help
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from apps.exchange.credentials import Credentials
from apps.exchange.errors import LoginImpossible

Scheme = Literal["basic", "bearer", "negotiate", "ntlm"]

# A header of many challenges; what is longer is not read.
_LONGEST: Final = 8192
# A scheme, alone or before its token or parameters. `name=value` is a parameter of the last one.
_CHALLENGE: Final = re.compile(r"([A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]*)(?:[ \t]+(.*))?", re.DOTALL)

# Basic first: it costs nothing and its connections are shared. Kerberos before NTLM, as Windows.
_BY_PASSWORD: Final[tuple[Scheme, ...]] = ("basic", "negotiate", "ntlm")
_ONLY: Final[dict[str, tuple[Scheme, ...]]] = {
    "ntlm": ("ntlm",),
    "negotiate": ("negotiate",),
    "oauth": ("bearer",),
    "certificate": ("basic",),
}


def schemes(header: str) -> frozenset[str]:
    """The names of all schemes in a WWW-Authenticate, in lower case."""
    return frozenset(name for name, _ in _challenges(header))


def token(header: str, scheme: Scheme) -> bytes | None:
    """What the server says within a scheme: empty for its mere name, None where it isn't offered.

    Raises:
        ValueError: it isn't base64.
    """
    found = [said for name, said in _challenges(header) if name == scheme]
    return b64decode(found[0], validate=True) if found else None


def choose(credentials: Credentials, offered: Iterable[str]) -> tuple[Scheme, ...]:
    """The schemes that these credentials may be used by, the best one first.

    Raises:
        LoginImpossible: `login_not_offered`: the server offers none of them.
    """
    wanted = _ONLY.get(credentials.type, _BY_PASSWORD)
    offered = frozenset(offered)
    found = tuple(scheme for scheme in wanted if scheme in offered)
    if not found:
        raise LoginImpossible("login_not_offered")
    return found


def _challenges(header: str) -> Iterator[tuple[str, str]]:
    for part in _parts(header[:_LONGEST]):
        match = _CHALLENGE.fullmatch(part.strip())
        if match is not None and not (match[2] or "").startswith("="):
            yield match[1].lower(), (match[2] or "").strip()


def _parts(header: str) -> Iterator[str]:
    """What stands between the commas that are not within quotes."""
    part: list[str] = []
    quoted = escaped = False
    for character in header:
        if character == "," and not quoted:
            yield "".join(part)
            part.clear()
            continue
        part.append(character)
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
    yield "".join(part)
