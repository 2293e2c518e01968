"""The way to a mail system, as an administrator describes it: checked here, before it is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

# What a gateway may know a device by: what the device said of itself when it subscribed.
IDENTITY: Final = ("eas_id", "uem_id", "model", "os_version", "app_version", "platform", "app_id")
DEFAULT_HEADERS: Final = ("X-Device-Id: {eas_id}",)
DEFAULT_REFUSALS: Final = (403,)
PROXY_AUTHS: Final = ("none", "basic", "ntlm", "negotiate")
_MOST_HEADERS: Final = 16

_HEADER: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,63}):[ \t]*([\x21-\x7e][\x20-\x7e]{0,199})")
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
# 401 and 407 are about credentials, 408 and 429 pass by themselves.
_MAY_REFUSE: Final = frozenset(range(400, 500)) - {401, 407, 408, 429}


class WayRefused(ValueError):
    """A part of the way that can't be; the text says why, to whoever wrote it."""


def proxy_url(text: str) -> str:
    """A proxy's address as it is stored, `http://host:port`; empty for none.

    Raises:
        WayRefused: something else than that.
    """
    url = text.strip().rstrip("/")
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        good = good and not (parts.username or parts.path or parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable():
        raise WayRefused("An address such as http://proxy.example.com:8080.")
    return url


def header_lines(lines: Iterable[str]) -> list[str]:
    """Header templates as they are stored, one a line, such as `X-Device-Id: {eas_id}`.

    Raises:
        WayRefused: malformed, a header that ENS sends itself, one twice, or an unknown field.
    """
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise WayRefused("A line is a header's name, a colon and what it holds.")
        name, template = header[1], header[2].rstrip()
        if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIXES):
            raise WayRefused(f"{name} is not for a gateway to choose.")
        fields = _FIELD.findall(template)
        if not fields or set(fields) - set(IDENTITY) or set("{}") & set(_FIELD.sub("", template)):
            known = ", ".join(f"{{{one}}}" for one in IDENTITY)
            raise WayRefused(f"A header holds one or more of {known}.")
        if name.lower() in found:
            raise WayRefused(f"{name} stands there twice.")
        found[name.lower()] = f"{name}: {template}"
    if len(found) > _MOST_HEADERS:
        raise WayRefused(f"No more than {_MOST_HEADERS} headers.")
    return list(found.values())


def refusals(statuses: Iterable[int]) -> list[int]:
    """The HTTP statuses with which a gateway refuses a device, in order.

    Raises:
        WayRefused: one that can't be about a device.
    """
    chosen = sorted(set(statuses))
    if set(chosen) - _MAY_REFUSE:
        raise WayRefused("Statuses from 400 to 499, but not 401, 407, 408 and 429.")
    return chosen
