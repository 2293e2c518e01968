"""Calls webhooks, on this machine only: a lab must not be able to bother anybody else."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from .errors import NotSoap
from .notification import read_result

_ACTION = "http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification"
_HEADERS = {
    "Content-Type": "text/xml; charset=utf-8",
    "SOAPAction": f'"{_ACTION}"',
    "User-Agent": "ExchangeWebServicesPush/15.02 (lab)",
    "Accept": "text/xml",
}
_MAX_REPLY = 64 * 1024
_MAX_CONNECTIONS = 500


class WebhookFailed(Exception):
    """Nobody answered, or not with what a webhook must answer."""


class _LoopbackResolver(AbstractResolver):
    """Resolves as the system does, and keeps loopback addresses only."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)  # type: ignore[arg-type]
        found = [entry for entry in results if ip_address(entry["host"]).is_loopback]
        if not found:
            raise OSError("the lab calls loopback addresses only")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_callable(url: str) -> bool:
    """True for an http or https URL with a host that isn't an address beyond this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return True


class Webhooks:
    """The HTTP client of push delivery. Trusts the system's CAs and the lab's."""

    def __init__(self, ca_pem: str, timeout_s: float) -> None:
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=ca_pem)
        connector = aiohttp.TCPConnector(
            ssl=context, resolver=_LoopbackResolver(), limit=_MAX_CONNECTIONS
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers=_HEADERS,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def post(self, url: str, body: bytes) -> tuple[str, bytes]:
        """The webhook's status (`OK`, `Unsubscribe`) and its reply. Raises `WebhookFailed`."""
        if not is_callable(url):
            raise WebhookFailed
        try:
            try:
                reply = await self._post(url, body)
            except aiohttp.ServerDisconnectedError:
                # A kept connection that the webhook had closed; .NET tries anew at once, too.
                reply = await self._post(url, body)
            return read_result(reply), reply
        except (aiohttp.ClientError, TimeoutError, OSError, NotSoap, ValueError):
            # Without the cause: its text may hold the URL, and in it what others keep secret.
            raise WebhookFailed from None

    async def _post(self, url: str, body: bytes) -> bytes:
        async with self._session.post(url, data=body, allow_redirects=False) as response:
            if response.status != 200:
                raise WebhookFailed
            reply = bytearray()
            async for chunk in response.content.iter_chunked(4096):
                reply += chunk
                if len(reply) > _MAX_REPLY:
                    raise WebhookFailed
            return bytes(reply)

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()
