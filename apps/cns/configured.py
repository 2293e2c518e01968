"""The client as `ens.env` says: address, key, pins, CAs and proxy."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from apps.cns.channel import ChannelUnusable
from apps.cns.client import CnsClient
from apps.wire.proxy import Proxy


class CnsNotConfigured(Exception):
    """A setting is missing or the file it names can't be used; the text names the setting."""


def configured_client() -> CnsClient:
    """A new client for the configured relay.

    Raises:
        CnsNotConfigured: ENS_CNS_URL or ENS_CNS_KEY_FILE is missing, or a setting unusable.
    """
    ens = settings.ENS
    if ens.cns_url is None:
        raise CnsNotConfigured("ENS_CNS_URL is missing")
    if ens.cns_key_file is None:
        raise CnsNotConfigured("ENS_CNS_KEY_FILE is missing")
    key_pem = _content("ENS_CNS_KEY_FILE", ens.cns_key_file)
    ca_pem = _content("ENS_CNS_CA_FILE", ens.cns_ca_file) if ens.cns_ca_file else b""
    ca_text = ca_pem.decode("utf-8", "replace")
    try:
        return CnsClient(ens.cns_url, key_pem, ens.cns_pins, ca_text, proxy=_proxy())
    except ChannelUnusable as error:
        raise CnsNotConfigured(f"ENS_CNS_KEY_FILE: {error}") from None


@lru_cache(maxsize=1)
def shared_client() -> CnsClient:
    """The process's one client for the configured relay, for use from its background loop.

    Raises:
        CnsNotConfigured: as `configured_client`.
    """
    return configured_client()


def _proxy() -> Proxy | None:
    ens = settings.ENS
    if ens.cns_proxy_url is None:
        return None
    try:
        parts = urlsplit(ens.cns_proxy_url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host:
        raise CnsNotConfigured("ENS_CNS_PROXY_URL is malformed")
    user, password = ens.cns_proxy_user, ens.cns_proxy_password
    return Proxy(
        host, port, ens.cns_proxy_auth, user.get_secret_value(), password.get_secret_value()
    )


def _content(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CnsNotConfigured(f"{setting} can't be read ({type(error).__name__})") from None
