"""Exchange as a `MailServer`: the operations, put on the wire and mapped to typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from apps.exchange.autodiscover.service import Autodiscover
from apps.exchange.autodiscover.srv import DnsResolver
from apps.exchange.errors import (
    EwsError,
    ExchangeError,
    NonPrimaryAddress,
    NotEws,
    NotThisMailbox,
    VersionRefused,
)
from apps.exchange.ews import find_item, get_folder, get_item, subscribe, versions
from apps.exchange.interface import (
    NO_EXTRAS,
    Credentials,
    Described,
    Endpoint,
    Extras,
    Item,
    Joined,
    Product,
    Proof,
    Reach,
)
from apps.exchange.transport import Transport

# A mail's answer is some two kilobytes: so many stay far below the cap.
_ITEMS_A_CALL = 100
# How a server older than Exchange 2013 answers to a request in that one's schema.
_NOT_UNDERSTOOD = {
    "ErrorSchemaValidation",
    "ErrorInvalidRequest",
    "ErrorInvalidPropertyRequest",
}


class EwsServer:
    """Exchange Web Services, for any number of servers and users, in one event loop.

    Args:
        version: of ENS, for the user agent, which administrators put on lists.
        max_host_connections: connections to one host at most, 0 for no limit.
        name_servers: who is asked for Autodiscover's SRV records; those of the system for none.
    """

    def __init__(
        self,
        version: str,
        *,
        max_host_connections: int = 0,
        name_servers: Sequence[str] = (),
    ) -> None:
        self._transport = Transport(version, max_host_connections=max_host_connections)
        self._versions = versions.KnownVersions()
        self._autodiscover = Autodiscover(self._transport, DnsResolver(name_servers))

    async def discover(
        self, system: Reach, credentials: Credentials, address: str, deadline_s: float
    ) -> str:
        """See `MailServer.discover`. By Autodiscover (`apps.exchange.autodiscover`)."""
        return await self._autodiscover.ews_url(system, credentials, address, deadline_s)

    async def prove(
        self, endpoint: Endpoint, credentials: Credentials, address: str, deadline_s: float
    ) -> Proof:
        """See `MailServer.prove`. One GetFolder names both Inboxes.

        A second one does where Exchange wants the primary address and names it: that of an alias,
        or after the address was changed. Whose alias it is, it knows; whether that is the caller's
        own mailbox is proved as ever.
        """
        if "@" not in address:
            raise NotThisMailbox
        end = asyncio.get_running_loop().time() + deadline_s
        try:
            return await self._prove(endpoint, credentials, address, deadline_s)
        except NonPrimaryAddress as alias:
            if "@" not in alias.primary:
                raise
            primary = alias.primary
        left = end - asyncio.get_running_loop().time()
        return await self._prove(endpoint, credentials, primary, left)

    async def _prove(
        self, endpoint: Endpoint, credentials: Credentials, address: str, deadline_s: float
    ) -> Proof:
        body = get_folder.proof_request(address)
        return get_folder.parse_proof(await self._call(endpoint, credentials, body, deadline_s))

    async def join(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        callback_url: str,
        status_frequency_minutes: int,
        deadline_s: float,
    ) -> Joined:
        """See `MailServer.join`. Exchange may call the webhook before this returns.

        Raises:
            SubscriptionUrlRefused: Exchange doesn't take the URL.
            TooManySubscriptions: the user's limit is reached.
        """
        body = subscribe.request(callback_url, status_frequency_minutes)
        return subscribe.parse(await self._call(endpoint, credentials, body, deadline_s))

    async def describe(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        item_ids: Sequence[str],
        want_unread: bool,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> Described:
        """See `MailServer.describe`. GetItem, then GetFolder if the count is wanted.

        One after the other, though both at once would be quicker: with a changed password two
        calls would be two failed logins, and few of those lock an account. The count is rarely
        wanted, for Exchange's notifications carry it.
        """
        end = asyncio.get_running_loop().time() + deadline_s
        items = await self._items(endpoint, credentials, item_ids, deadline_s, extras)
        if not want_unread:
            return Described(items, None)
        left = end - asyncio.get_running_loop().time()
        raw = await self._call(endpoint, credentials, get_folder.UNREAD_REQUEST, left)
        return Described(items, get_folder.parse_unread(raw))

    async def newest_unread(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        since: datetime,
        limit: int,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> list[Item]:
        """See `MailServer.newest_unread`. FindItem, then GetItem for what it found."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        body = find_item.request(since, limit)
        found = find_item.parse(await self._call(endpoint, credentials, body, deadline_s))[:limit]
        items = await self._items(endpoint, credentials, found, end - loop.time(), extras)
        return [item for item in items.values() if not item.is_read]

    def products(self, url: str) -> tuple[Product, ...]:
        """See `MailServer.products`."""
        seen = self._versions.of(Endpoint(url).host)
        return tuple(Product(str(version), version.supported) for version in seen)

    async def close(self) -> None:
        """Close all connections; calls under way fail as Unreachable."""
        await self._transport.close()

    async def _items(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        ids: Sequence[str],
        deadline_s: float,
        extras: Extras,
    ) -> dict[str, Item]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        end = asyncio.get_running_loop().time() + deadline_s
        found: dict[str, Item] = {}
        for start in range(0, len(wanted), _ITEMS_A_CALL):
            some = wanted[start : start + _ITEMS_A_CALL]
            left = end - asyncio.get_running_loop().time()
            found |= await self._some_items(endpoint, credentials, some, left, extras)
        return found

    async def _some_items(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        ids: Sequence[str],
        deadline_s: float,
        extras: Extras,
    ) -> dict[str, Item]:
        """GetItem; a preview is asked for in whichever way this server understands.

        What costs a mail its preview must not cost it its announcement.
        """
        end = asyncio.get_running_loop().time() + deadline_s
        ways: list[get_item.Previews] = ["none"]
        if extras.preview:
            newer = self._versions.have_previews(endpoint.host)
            ways = ["property", "body", "none"] if newer else ["body", "none"]
        for way in ways:
            body = get_item.request(ids, way, conversations=extras.conversation)
            left = end - asyncio.get_running_loop().time()
            try:
                raw = await self._call(endpoint, credentials, body, left)
                return get_item.parse(raw, ids)
            except (EwsError, NotEws, VersionRefused) as error:
                if way == "none" or error.transient:
                    raise
                if way == "property" and _is_too_new(error):
                    self._versions.refused(endpoint.host)
        raise AssertionError("the last way returns or raises")

    async def _call(
        self, endpoint: Endpoint, credentials: Credentials, body: bytes, deadline_s: float
    ) -> bytes:
        answer = (await self._transport.post(endpoint, credentials, body, deadline_s)).body
        self._versions.learn(endpoint.host, answer)
        return answer


def _is_too_new(error: ExchangeError) -> bool:
    """Whether a server says that it doesn't know the schema of a request."""
    return isinstance(error, VersionRefused) or (
        isinstance(error, EwsError) and error.response_code in _NOT_UNDERSTOOD
    )
