"""What a mail server's answer to a call without credentials tells. Plain: no I/O, no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apps.exchange.auth import kerberos, offers

# What ENS can sign in with; docs of IIS and Exchange write them so.
_KNOWN = ("Basic", "NTLM", "Negotiate", "Bearer")
# They log connections in, which end at a gateway.
_NOT_BEHIND_GATEWAYS = frozenset({"NTLM", "Negotiate"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code`: `ews`, or what else seems to answer there. `offered`: ways to sign in, as listed."""

    code: str
    offered: tuple[str, ...]
    usable: bool


def judge(status: int, headers: Mapping[str, tuple[str, ...]], *, gateway: bool = False) -> Verdict:
    """What answers at an EWS address that was asked without credentials.

    An EWS endpoint answers 401 and offers ways to sign in. Codes: `ews`, `nothing_offered` (401
    without any), `not_found`, `forbidden`, `redirected` (a portal or a pre-authentication is in
    front), `open` (it asks for no credentials), `busy`, `broken`. `gateway`: one is in between.
    """
    named = offers.schemes(", ".join(headers.get("www-authenticate", ())))
    offered = tuple(name for name in _KNOWN if name.lower() in named)
    usable = {
        name
        for name in offered
        if (name != "Negotiate" or kerberos.available())
        and not (gateway and name in _NOT_BEHIND_GATEWAYS)
    }
    if status == 401:
        return Verdict("ews" if offered else "nothing_offered", offered, bool(usable))
    codes = {404: "not_found", 403: "forbidden", 429: "busy", 503: "busy", 440: "redirected"}
    if status in codes:
        return Verdict(codes[status], offered, bool(usable))
    if 300 <= status < 400:
        return Verdict("redirected", offered, bool(usable))
    return Verdict("broken" if status >= 500 else "open", offered, bool(usable))
