"""What every mail server must be able to do: the only face of it that other rooms know.

Exchange Web Services is the first to implement it (`apps.exchange.ews.server.EwsServer`),
Microsoft Graph will be the next. Every call has a total deadline and raises `ExchangeError`s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from apps.exchange.credentials import Credentials
from apps.exchange.gateway import Gateway
from apps.wire.client import TlsFloor
from apps.wire.proxy import Proxy

__all__ = [
    "NO_EXTRAS",
    "Credentials",
    "Described",
    "Endpoint",
    "Extras",
    "Item",
    "ItemKind",
    "Joined",
    "MailServer",
    "Proof",
    "Reach",
]


ItemKind = Literal[
    "message", "meeting_request", "meeting_response", "meeting_cancellation", "other"
]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a mail server is, and what the administrator permits on the way there.

    `ca_pem`: private CAs in addition to the system's. `exceptions`: networks which the address
    guard lets pass (the lab only). `proxy`: the only way there. `tls_floor`: the oldest TLS that
    will do. `gateway`: what stands in front and wants to know whose device it is.
    """

    url: str
    ca_pem: str = field(default="", repr=False)
    allow_private: bool = False
    exceptions: tuple[IPv4Network | IPv6Network, ...] = ()
    proxy: Proxy | None = None
    tls_floor: TlsFloor = "1.2"
    gateway: Gateway | None = None

    @property
    def host(self) -> str:
        """Host and port as the URL writes them, in small letters; empty where it has none."""
        try:
            return urlsplit(self.url).netloc.rpartition("@")[2].lower()
        except ValueError:  # half of an IPv6 address
            return ""


@dataclass(frozen=True, slots=True)
class Reach:
    """A mail system whose EWS address for a mailbox is not known yet.

    `name` tells it from others. `endpoint`: the way to any of its hosts; its URL is empty. `permit`
    writes an https address on one of its hosts in its normal form, and returns None for any other.
    """

    name: str
    endpoint: Endpoint
    permit: Callable[[str], str | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """`inbox_id`: the id of the caller's own Inbox, which is the claimed address' Inbox too."""

    inbox_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Joined:
    """A push subscription that the mail server has accepted."""

    subscription_id: str
    watermark: str


@dataclass(frozen=True, slots=True)
class Item:
    """What an announcement needs to know of an item. `received_at` is aware (UTC) or None."""

    item_id: str
    kind: ItemKind
    sender_name: str = field(repr=False)
    sender_address: str = field(repr=False)
    subject: str = field(repr=False)
    received_at: datetime | None
    is_read: bool
    parent_folder_id: str
    # The beginning of the text and the id of the conversation, where they were asked for.
    preview: str = field(default="", repr=False)
    conversation_id: str = ""


@dataclass(frozen=True, slots=True)
class Extras:
    """What is asked of items beyond what every announcement needs."""

    preview: bool = False
    conversation: bool = False


NO_EXTRAS: Final = Extras()


@dataclass(frozen=True, slots=True)
class Described:
    """Items by the id they were asked for, those that are gone left out.

    `unread_count` is the Inbox's, None unless it was wanted.
    """

    items: dict[str, Item]
    unread_count: int | None


@dataclass(frozen=True, slots=True)
class Product:
    """What a mail server says it is, with its version, and whether ENS is made for that."""

    name: str
    supported: bool


class MailServer(Protocol):
    """A kind of mail server. Deadlines are total, in seconds; ids are case-sensitive."""

    async def discover(
        self, system: Reach, credentials: Credentials, address: str, deadline_s: float
    ) -> str:
        """Find the URL at which the mailbox of `address` is served, on a host of its mail system.

        Raises:
            AutodiscoverFailed: nothing told where; transient if something may do so later.
            AutodiscoverHostNotAllowed: it is on hosts that the mail system doesn't list.
        """

    async def prove(
        self, endpoint: Endpoint, credentials: Credentials, address: str, deadline_s: float
    ) -> Proof:
        """Prove that the credentials' owner owns the mailbox of `address`.

        Behind a gateway this is the probe, too: it goes out with the device's own headers.

        Raises:
            GatewayRefused: the gateway does not let this device through.
            NotThisMailbox: somebody else's, also where these credentials have rights in it.
        """

    async def join(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        callback_url: str,
        status_frequency_minutes: int,
        deadline_s: float,
    ) -> Joined:
        """Subscribe to the events of the caller's Inbox, to be pushed to `callback_url`."""

    async def describe(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        item_ids: Sequence[str],
        want_unread: bool,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> Described:
        """Look up new items and, if wanted, how many unread ones the Inbox holds."""

    async def newest_unread(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        since: datetime,
        limit: int,
        deadline_s: float,
        extras: Extras = NO_EXTRAS,
    ) -> list[Item]:
        """The unread items that came to the Inbox at `since` (aware) or later, newest first."""

    def products(self, url: str) -> tuple[Product, ...]:
        """What answered this process lately behind the URL's host, oldest first; may be nothing."""
