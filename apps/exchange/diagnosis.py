"""What a mail server's answer to a call without credentials tells. Plain: no I/O, no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What ENS can sign in with; docs of IIS and Exchange write them so.
_KNOWN = ("Basic", "NTLM", "Negotiate", "Bearer")
_USABLE = frozenset({"Basic"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code`: `ews`, or what else seems to answer there. `offered`: ways to sign in, as listed."""

    code: str
    offered: tuple[str, ...]
    usable: bool


def judge(status: int, headers: Mapping[str, tuple[str, ...]]) -> Verdict:
    """What answers at an EWS address that was asked without credentials.

    An EWS endpoint answers 401 and offers ways to sign in. Codes: `ews`, `nothing_offered` (401
    without any), `not_found`, `forbidden`, `redirected` (a portal or a pre-authentication is in
    front), `open` (it asks for no credentials), `busy`, `broken`.
    """
    offered = tuple(
        name
        for name in _KNOWN
        for value in headers.get("www-authenticate", ())
        if any(part.strip().lower().startswith(name.lower()) for part in value.split(","))
    )
    offered = tuple(dict.fromkeys(offered))
    usable = bool(_USABLE & set(offered))
    if status == 401:
        return Verdict("ews" if offered else "nothing_offered", offered, usable)
    codes = {404: "not_found", 403: "forbidden", 429: "busy", 503: "busy", 440: "redirected"}
    if status in codes:
        return Verdict(codes[status], offered, usable)
    if 300 <= status < 400:
        return Verdict("redirected", offered, usable)
    return Verdict("broken" if status >= 500 else "open", offered, usable)
