"""A Secure Email Gateway in front of Exchange: it lets a request through by whose phone it is for.

ENS calls it as the phone would: each request carries headers that name the device whose credentials
it uses. What these headers are called is the gateway's affair, so the administrator writes them as
templates. Values come from phones and are hostile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# What a device may be known by, and what a template may name.
IDENTITY: Final = ("eas_id", "uem_id", "model", "os_version", "app_version", "platform", "app_id")
DEFAULT_HEADERS: Final = (("X-Device-Id", "{eas_id}"),)
DEFAULT_REFUSALS: Final = (403,)
MOST_HEADERS: Final = 16
_LONGEST: Final = 200

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_FIELD: Final = re.compile(r"\{([a-z_]*)\}")
# Ours, or such as steer how a request is read (RFC 9110, RFC 9112).
_RESERVED: Final = frozenset(
    {
        *("authorization", "host", "accept", "content-type", "content-length", "cookie"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-encoding", "range", "user-agent", "forwarded", "via", "max-forwards"),
    }
)
_RESERVED_PREFIXES: Final = ("proxy-", "x-forwarded-", "sec-")
# 401 and 407 are about credentials, 429 and the 5xx pass by themselves.
_MAY_REFUSE: Final = frozenset(range(400, 500)) - {401, 407, 408, 429}


class TemplateRefused(ValueError):
    """A header template that can't be used; the text says why, without its content."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway wants to know, as (header, template), and how it says no, in HTTP statuses."""

    headers: tuple[tuple[str, str], ...] = DEFAULT_HEADERS
    refusals: tuple[int, ...] = DEFAULT_REFUSALS

    def headers_for(self, identity: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The headers of a request for the device of this identity.

        One whose template names something that the device did not tell is left out: half an id
        must not pass for another phone's.
        """
        known = {name: plain(value) for name, value in identity}
        return tuple(
            (name, _FIELD.sub(lambda found: known[found[1]], template))
            for name, template in self.headers
            if all(known.get(field) for field in _FIELD.findall(template))
        )


def plain(value: str) -> str:
    """What a phone says, as it may stand in a header: printable ASCII, without an end in sight."""
    return "".join(one if " " <= one <= "~" else "?" for one in value).strip()[:_LONGEST]


def parse_headers(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Header templates from lines such as `X-Device-Id: {eas_id}`; empty lines are passed over.

    Raises:
        TemplateRefused: malformed, a header that ENS sends itself, or an unknown field.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        if not line.strip():
            continue
        name, colon, template = line.partition(":")
        name, template = name.strip(), template.strip()
        if not colon or not _NAME.fullmatch(name) or plain(template) != template or not template:
            raise TemplateRefused("a line must be a header's name, a colon and a template")
        if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
            raise TemplateRefused("this header is not for a gateway to choose")
        fields = _FIELD.findall(template)
        if not fields or set(fields) - set(IDENTITY) or set("{}") & set(_FIELD.sub("", template)):
            raise TemplateRefused("a template names these: " + ", ".join(IDENTITY))
        if name.lower() in found:
            raise TemplateRefused("a header stands there twice")
        found[name.lower()] = (name, template)
    if len(found) > MOST_HEADERS:
        raise TemplateRefused(f"more than {MOST_HEADERS} headers")
    return tuple(found.values())


def check_refusals(statuses: Iterable[int]) -> tuple[int, ...]:
    """The statuses with which a gateway refuses a device, in order.

    Raises:
        TemplateRefused: none, or one that can't be about a device.
    """
    chosen = tuple(sorted(set(statuses)))
    if not chosen or set(chosen) - _MAY_REFUSE:
        raise TemplateRefused("statuses from 400 to 499 are possible, not 401, 407, 408 and 429")
    return chosen
