"""The client as `ens.env` says: address, pins, CAs, proxy; the key unless the database has one."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from apps.cns import keys
from apps.cns.channel import ChannelUnusable
from apps.cns.client import CnsClient
from apps.wire.proxy import Proxy


class CnsNotConfigured(Exception):
    """A setting is missing or the file it names can't be used; the text names the setting."""


# How long a process may go on signing with the key before.
LOOK_AGAIN_S: Final = 5.0


def configured_client(key_pem: bytes | None = None) -> CnsClient:
    """A new client for the configured relay; without a key it signs with the configured file.

    Raises:
        CnsNotConfigured: ENS_CNS_URL or ENS_CNS_KEY_FILE is missing, or a setting unusable.
    """
    ens = settings.ENS
    if ens.cns_url is None:
        raise CnsNotConfigured("ENS_CNS_URL is missing")
    if key_pem is None:
        key_pem = key_of_file()
    ca_pem = _content("ENS_CNS_CA_FILE", ens.cns_ca_file) if ens.cns_ca_file else b""
    ca_text = ca_pem.decode("utf-8", "replace")
    try:
        return CnsClient(ens.cns_url, key_pem, ens.cns_pins, ca_text, proxy=_proxy())
    except ChannelUnusable as error:
        raise CnsNotConfigured(f"ENS_CNS_KEY_FILE: {error}") from None


def key_of_file() -> bytes:
    """What `ENS_CNS_KEY_FILE` holds.

    Raises:
        CnsNotConfigured: the setting is missing, or the file can't be read.
    """
    file = settings.ENS.cns_key_file
    if file is None:
        raise CnsNotConfigured("ENS_CNS_KEY_FILE is missing")
    return _content("ENS_CNS_KEY_FILE", file)


class _Shared:
    """One client; it looks now and then whether another key is to sign."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: CnsClient | None = None
        self._thumbprint = ""
        self._look_at = float("-inf")

    def client(self) -> CnsClient:
        with self._lock:
            if self._client is None or time.monotonic() >= self._look_at:
                self._look()
            assert self._client is not None
            return self._client

    def _look(self) -> None:
        row = keys.current()
        thumbprint = row.thumbprint if row else ""
        if self._client is None:
            self._client = configured_client(keys.pem(row) if row else None)
        elif thumbprint != self._thumbprint:
            # The connections stay; only what is signed from now on is signed by another.
            self._client.sign_with(keys.pem(row) if row else key_of_file())
        self._thumbprint, self._look_at = thumbprint, time.monotonic() + LOOK_AGAIN_S


_shared = _Shared()


def shared_client() -> CnsClient:
    """The process's one client for the configured relay, for use from its background loop.

    It signs with the database's current key (keys.py), else with the configured file.

    Raises:
        CnsNotConfigured: as `configured_client`.
    """
    return _shared.client()


def forget() -> None:
    """Read settings and keys anew when next asked."""
    global _shared
    _shared = _Shared()


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
