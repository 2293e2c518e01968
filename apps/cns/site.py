"""The CNS as this deployment knows it: what the console says, else what `ens.env` says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args
from urllib.parse import urlsplit

from cryptography import x509
from django.conf import settings
from django.utils import timezone

from apps.cns.models import Pin, Site
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap
from apps.wire.pins import spki_pin
from apps.wire.proxy import Proxy, ProxyAuth

_ROW = 1
_TABLE = Site._meta.db_table
_PURPOSE = "proxy-login"
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]*")


class CnsNotConfigured(Exception):
    """A setting is missing or the file it names can't be used; the text names the setting."""


class PinRefused(ValueError):
    """No certificate that could be pinned; the text says why."""


@dataclass(frozen=True, slots=True)
class CnsSite:
    """Where the CNS is and how it is reached. No pins: any trusted certificate will do."""

    url: str
    pins: tuple[str, ...] = ()
    ca_pem: str = field(default="", repr=False)
    proxy: Proxy | None = None


def site_row() -> Site:
    """The row of what was decided here; a fresh one where nothing was."""
    return Site.objects.filter(pk=_ROW).first() or Site(pk=_ROW)


def current_site() -> CnsSite:
    """Database over `ens.env`. Two queries.

    Raises:
        CnsNotConfigured: no address anywhere, or something of it can't be used.
    """
    ens, row = settings.ENS, site_row()
    url = row.url or ens.cns_url
    if not url:
        raise CnsNotConfigured("ENS_CNS_URL is missing")
    pins = tuple(
        Pin.objects.filter(host=host_of(url)).order_by("pk").values_list("spki", flat=True)
    )
    if not row.url or row.url == ens.cns_url:
        pins = (*ens.cns_pins, *(pin for pin in pins if pin not in ens.cns_pins))
    ca_pem = row.ca_pem
    if not ca_pem and ens.cns_ca_file:
        ca_pem = content_of("ENS_CNS_CA_FILE", ens.cns_ca_file).decode("utf-8", "replace")
    return CnsSite(url, pins, ca_pem, _proxy(row))


def host_of(url: str) -> str:
    """The host of an address, as pins are listed for it; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def save_proxy(row: Site, url: str, auth: str, login: tuple[str, str] | None) -> None:
    """Take another proxy into a row, unsaved; no `url`: none. `login` None: as it is."""
    row.proxy_chosen, row.proxy_url, row.proxy_auth = True, url, auth
    if login is not None:
        plain = json.dumps(login).encode()
        row.sealed_proxy_login = (
            wrap(plain, table=_TABLE, row=str(_ROW), purpose=_PURPOSE) if any(login) else None
        )


def add_pin(host: str, pem: str) -> Pin:
    """Pin the first certificate of a PEM text for a host; one that is pinned already is returned.

    Raises:
        PinRefused: no certificate in it, or an expired one, or no host.
    """
    host = host.strip().lower()
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode("ascii"))[0]
        subject = certificate.subject.rfc4514_string()[:300]
    except (ValueError, IndexError):
        raise PinRefused("no certificate in PEM") from None
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise PinRefused("no host name")
    if certificate.not_valid_after_utc <= timezone.now():
        raise PinRefused("this certificate has expired")
    found, _ = Pin.objects.get_or_create(
        host=host,
        spki=spki_pin(certificate),
        defaults={
            "subject": subject,
            "certificate": pem,
            "expires_at": certificate.not_valid_after_utc,
            "created_at": timezone.now(),
        },
    )
    return found


def content_of(setting: str, file: Path) -> bytes:
    """What a file holds that a setting names.

    Raises:
        CnsNotConfigured: it can't be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise CnsNotConfigured(f"{setting} can't be read ({type(error).__name__})") from None


def _proxy(row: Site) -> Proxy | None:
    ens = settings.ENS
    if not row.proxy_chosen:
        secret = (ens.cns_proxy_user.get_secret_value(), ens.cns_proxy_password.get_secret_value())
        return _as_proxy("ENS_CNS_PROXY_URL", ens.cns_proxy_url or "", ens.cns_proxy_auth, secret)
    user = password = ""
    if row.sealed_proxy_login is not None:
        try:
            plain = unwrap(
                bytes(row.sealed_proxy_login), table=_TABLE, row=str(_ROW), purpose=_PURPOSE
            )
        except UnwrapFailed:
            raise CnsNotConfigured("the proxy's login doesn't open") from None
        user, password = json.loads(plain)
    return _as_proxy("the CNS proxy", row.proxy_url, row.proxy_auth, (user, password))


def _as_proxy(name: str, url: str, auth: str, login: tuple[str, str]) -> Proxy | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or auth not in get_args(ProxyAuth):
        raise CnsNotConfigured(f"{name} is malformed")
    return Proxy(host, port, cast(ProxyAuth, auth), *login)
