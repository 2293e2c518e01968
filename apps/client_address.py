"""Who calls: the address of a request's client, believing forwarded headers of listed proxies only.

`ENS_TRUSTED_PROXIES` lists them; a header that anybody else wrote counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?")


def client_address(request: HttpRequest) -> IPv4Address | IPv6Address | str:
    """The caller's address; what can't be read as one comes back as text, 64 characters of it."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    while forwarded and _is_proxy(peer):
        candidate = forwarded.pop()
        if not candidate:
            break
        peer = candidate
    return _address(peer) or peer[:64]


def middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Let a request count as https if a listed proxy says that it came so.

    Without this, browsers' forms would be refused behind a proxy that ends TLS, for their Origin
    names another scheme than the request.
    """

    def answer(request: HttpRequest) -> HttpResponseBase:
        said = request.META.get("HTTP_X_FORWARDED_PROTO")
        if said == "https" and _is_proxy(str(request.META.get("REMOTE_ADDR", ""))):
            request.META["wsgi.url_scheme"] = "https"
        return get_response(request)

    return answer


def _is_proxy(text: str) -> bool:
    address = _address(text)
    return address is not None and any(
        address in network for network in settings.ENS.trusted_proxies
    )


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as servers and proxies write it: some add the port (IIS), some map IPv4."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address(found[1] or found[2] if found else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
