"""The client for this deployment's CNS: where site.py says, signed with the key of keys.py."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Final

from django.conf import settings

from apps.cns import keys
from apps.cns.channel import ChannelUnusable
from apps.cns.client import CnsClient
from apps.cns.site import CnsNotConfigured, CnsSite, content_of, current_site
from apps.wire import background
from apps.wire.client import Client

__all__ = [
    "CnsNotConfigured",
    "configured_client",
    "forget",
    "key_of_file",
    "shared_client",
    "usable_client",
]


# How long a process may go on signing with the key before.
LOOK_AGAIN_S: Final = 3.0
_LONGEST_CALL_S: Final = 30.0
_told = False
log = logging.getLogger(__name__)


def configured_client(key_pem: bytes | None = None) -> CnsClient:
    """A new client for this deployment's CNS; without a key it signs with the configured file.

    Raises:
        CnsNotConfigured: there is no address or no key, or something of it is unusable.
    """
    return _client(current_site(), key_pem)


def _client(site: CnsSite, key_pem: bytes | None) -> CnsClient:
    try:
        return CnsClient(
            site.url, key_pem or key_of_file(), site.pins, site.ca_pem, proxy=site.proxy
        )
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
    return content_of("ENS_CNS_KEY_FILE", file)


class _Shared:
    """One client; it looks now and then whether the CNS or the key that is to sign is another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: CnsClient | None = None
        self._site: CnsSite | None = None
        self._thumbprint = ""
        self._look_at = float("-inf")

    def client(self) -> CnsClient:
        with self._lock:
            if self._client is None or time.monotonic() >= self._look_at:
                self._look()
            assert self._client is not None
            return self._client

    def _look(self) -> None:
        row, site = keys.current(), current_site()
        thumbprint = row.thumbprint if row else ""
        if self._client is None:
            self._client = _client(site, keys.pem(row) if row else None)
        # The client stays the same one: who holds it need not ask again.
        elif site != self._site:
            _close_later(self._client.move_to(site.url, site.pins, site.ca_pem, proxy=site.proxy))
        if self._site is not None and thumbprint != self._thumbprint:
            self._client.sign_with(keys.pem(row) if row else key_of_file())
        self._site, self._thumbprint = site, thumbprint
        self._look_at = time.monotonic() + LOOK_AGAIN_S


def _close_later(connections: Client) -> None:
    """Close connections when the calls on them are answered or given up."""

    async def close() -> None:
        await asyncio.sleep(_LONGEST_CALL_S)
        await connections.close()

    asyncio.run_coroutine_threadsafe(close(), background.background_loop())


_shared = _Shared()


def shared_client() -> CnsClient:
    """The process's one client for the configured relay, for use from its background loop.

    It signs with the database's current key (keys.py), else with the configured file.

    Raises:
        CnsNotConfigured: as `configured_client`.
    """
    return _shared.client()


def usable_client() -> CnsClient | None:
    """`shared_client`, or None, with a warning the first time, where nothing is configured.

    For tasks that come every second, from the first minute of an installation on.
    """
    global _told
    try:
        client = shared_client()
    except CnsNotConfigured as error:
        if not _told:
            log.warning("no phone can be reached yet: %s", error)
        _told = True
        return None
    _told = False
    return client


def forget() -> None:
    """Read settings and keys anew when next asked."""
    global _shared
    _shared = _Shared()
