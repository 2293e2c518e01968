"""From a mail system's row to how its Exchange is reached, and back: logins are sealed here."""

from __future__ import annotations

import json
from typing import Final, cast
from urllib.parse import urlsplit

from django.conf import settings

from apps.exchange.gateway import Gateway
from apps.exchange.interface import Endpoint
from apps.tenants import ways
from apps.tenants.models import MailSystem
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap
from apps.wire.client import TlsFloor
from apps.wire.proxy import Proxy, ProxyAuth

_TABLE: Final = MailSystem._meta.db_table
_PURPOSE: Final = "proxy-login"


def endpoint_of(system: MailSystem, ews_url: str) -> Endpoint:
    """How to reach a mail system's Exchange: CA bundle, address rules, proxy, TLS, gateway.

    What it says holds for the next call on every server: the row is read with every batch of mail.
    """
    return Endpoint(
        url=ews_url,
        ca_pem=system.ca_pem,
        allow_private=system.allow_private,
        exceptions=tuple(settings.ENS.guard_exceptions),
        proxy=proxy_of(system),
        tls_floor=cast(TlsFloor, system.tls_floor or "1.2"),
        gateway=_gateway(system),
    )


def proxy_of(system: MailSystem) -> Proxy | None:
    """The proxy with its login; a login that doesn't open is none, and the proxy will say so."""
    if not system.proxy_url:
        return None
    parts = urlsplit(system.proxy_url)
    host, port = parts.hostname or "", parts.port or 80
    login = _login(system)
    if login is None:
        # Not the account of this process in its place: that is what no user means.
        return Proxy(host, port)
    return Proxy(host, port, cast(ProxyAuth, system.proxy_auth or "none"), *login)


def seal_proxy_login(system: MailSystem, user: str, password: str) -> None:
    """Take the proxy's login into a row that has a key already; it is not saved here."""
    plain = json.dumps([user, password]).encode()
    system.sealed_proxy_login = (
        wrap(plain, table=_TABLE, row=str(system.pk), purpose=_PURPOSE) if user else None
    )


def proxy_user(system: MailSystem) -> str:
    """As whom ENS logs in to the proxy; empty for nobody."""
    login = _login(system)
    return login[0] if login else ""


def _login(system: MailSystem) -> tuple[str, str] | None:
    """User and password; None where they don't open."""
    if system.sealed_proxy_login is None:
        return "", ""
    sealed = bytes(system.sealed_proxy_login)
    try:
        plain = unwrap(sealed, table=_TABLE, row=str(system.pk), purpose=_PURPOSE)
    except UnwrapFailed:
        return None
    user, password = json.loads(plain)
    return user, password


def _gateway(system: MailSystem) -> Gateway | None:
    if not system.gateway:
        return None
    lines = system.gateway_headers or ways.DEFAULT_HEADERS
    pairs = [line.partition(":") for line in lines]
    return Gateway(
        headers=tuple((name.strip(), template.strip()) for name, _, template in pairs),
        refusals=tuple(system.gateway_refusals or ways.DEFAULT_REFUSALS),
    )
