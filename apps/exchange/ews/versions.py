"""Which Exchange answers behind a host's name, and so what it may be asked.

Every answer names the server that gave it (ServerVersionInfo):
https://learn.microsoft.com/exchange/client-developer/web-service-reference/serverversioninfo
Requests are in the oldest schema that holds what they ask for, as Microsoft advises:
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-schema-versions-in-exchange
So what Exchange 2010 SP3 understands is asked of everyone, and more only where every server that
answered lately under that name is known to be newer: a farm may have two versions side by side.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

log = logging.getLogger(__name__)

# The server element stands in the header; no body begins later than this.
_LOOKED_AT_BYTES: Final = 4096
_INFO: Final = re.compile(rb"<(?:\w{1,20}:)?ServerVersionInfo\s([^<>]{1,600})>")
_NUMBER: Final = re.compile(rb'\b(Major|Minor)(Version|BuildNumber)="([0-9]{1,6})"')
_ORDER: Final = (
    (b"Major", b"Version"),
    (b"Minor", b"Version"),
    (b"Major", b"BuildNumber"),
    (b"Minor", b"BuildNumber"),
)
# How long a server that is older than others under its name is reckoned with.
_REMEMBERED_S: Final = 3600.0
_HOSTS: Final = 1_000
# Of one host; while a farm is updated there may be several.
_VERSIONS: Final = 8
# Exchange 2013, which brought previews and the schema of that name.
_MAJOR_2013: Final = 15
# (major, minor): what it is sold as. 2019 and Subscription Edition differ by their build only:
# https://learn.microsoft.com/exchange/new-features/build-numbers-and-release-dates
_PRODUCTS: Final = {
    (8, 0): "Exchange 2007",
    (8, 1): "Exchange 2007 SP1",
    (8, 2): "Exchange 2007 SP2",
    (8, 3): "Exchange 2007 SP3",
    (14, 0): "Exchange 2010",
    (14, 1): "Exchange 2010 SP1",
    (14, 2): "Exchange 2010 SP2",
    (14, 3): "Exchange 2010 SP3",
    (15, 0): "Exchange 2013",
    (15, 1): "Exchange 2016",
    (15, 2): "Exchange 2019",
    (15, 20): "Exchange Online",
}


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A version of Exchange, as ServerVersionInfo tells it; the newer one is the greater."""

    major: int
    minor: int
    build: int = 0
    revision: int = 0

    @property
    def product(self) -> str:
        """What it is sold as, "Exchange" if that is not known."""
        if _SUBSCRIPTION_EDITION <= self < _ONLINE:
            return "Exchange Subscription Edition"
        if _2013_SP1 <= self < _2016:
            return "Exchange 2013 SP1"
        return _PRODUCTS.get((self.major, self.minor), "Exchange")

    @property
    def supported(self) -> bool:
        """Whether ENS is made for it: Exchange 2010 SP3 or newer."""
        return self >= _2010_SP3

    @property
    def has_previews(self) -> bool:
        """Whether it knows the schema Exchange2013 and with it the property Preview."""
        return self.major >= _MAJOR_2013

    def __str__(self) -> str:
        number = f"{self.major}.{self.minor}.{self.build}.{self.revision}"
        return f"{self.product} ({number})"


_2010_SP3: Final = ServerVersion(14, 3)
_2013_SP1: Final = ServerVersion(15, 0, 847)
_2016: Final = ServerVersion(15, 1)
_SUBSCRIPTION_EDITION: Final = ServerVersion(15, 2, 2562)
_ONLINE: Final = ServerVersion(15, 20)


def read(raw: bytes) -> ServerVersion | None:
    """The version of the server that gave this answer; None where it doesn't say.

    By a search rather than from the tree, which the operation builds for itself: it is a hint, and
    a wrong one costs a preview.
    """
    found = _INFO.search(raw, 0, _LOOKED_AT_BYTES)
    return None if found is None else _version(found[1])


@lru_cache(maxsize=256)
def _version(attributes: bytes) -> ServerVersion | None:
    """From the element's attributes, which are the same in all answers of a server."""
    numbers = {(part, of): int(value) for part, of, value in _NUMBER.findall(attributes)}
    if _ORDER[0] not in numbers or _ORDER[1] not in numbers:
        return None
    return ServerVersion(*(numbers.get(name, 0) for name in _ORDER))


@dataclass(slots=True)
class _Host:
    # When each version answered last, and until when nothing newer than 2010 is asked.
    seen: dict[ServerVersion, float] = field(default_factory=dict)
    refused_until: float = 0.0

    def lately(self) -> list[ServerVersion]:
        since = time.monotonic() - _REMEMBERED_S
        # A copy: diagnostics ask from another thread.
        return sorted(version for version, at in list(self.seen.items()) if at >= since)


class KnownVersions:
    """What this process has learned of mail servers: of a thousand hosts, the last ones used."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def learn(self, host: str, raw: bytes) -> None:
        """Take what an answer says of the server that gave it."""
        version = read(raw)
        if version is None:
            return
        known = self._of(host)
        if version not in known.seen:
            log.info("%s: %s answers", host, version)
            if len(known.seen) >= _VERSIONS:
                del known.seen[min(known.seen, key=known.seen.__getitem__)]
        known.seen[version] = time.monotonic()

    def refused(self, host: str) -> None:
        """A server did not understand what newer ones do: ask less of all of them for a while.

        It needn't be the one that answered: a newer one may have handed the request on to it.
        """
        self._of(host).refused_until = time.monotonic() + _REMEMBERED_S

    def have_previews(self, host: str) -> bool:
        """Whether every server that answered lately under this name knows previews."""
        known = self._hosts.get(host)
        if known is None or known.refused_until > time.monotonic():
            return False
        versions = known.lately()
        return bool(versions) and versions[0].has_previews

    def of(self, host: str) -> tuple[ServerVersion, ...]:
        """Those that answered within the last hour, oldest first."""
        known = self._hosts.get(host)
        return tuple(known.lately()) if known else ()

    def _of(self, host: str) -> _Host:
        known = self._hosts.get(host)
        if known is None:
            if len(self._hosts) >= _HOSTS:
                self._hosts.popitem(last=False)
            known = self._hosts[host] = _Host()
        self._hosts.move_to_end(host)
        return known
