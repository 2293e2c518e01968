"""Whether a proxy may be asked for a host: the proxy connects, so no connected address is seen.

What can be judged here is what was asked for. A literal is judged as it stands; numbers that only
some resolvers read as an address (inet_aton(3) knows decimal, hex, octal and short ones) are
refused, for proxies differ about which address that is. A name is looked up here too, and all its
addresses must pass: the proxy may take any of them. A name that can't be looked up here passes, for
behind a proxy there is often no DNS for the world outside; what it leads to is then up to the proxy
and to whoever put that name on the list of allowed hosts.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from apps.wire.errors import AddressRefused, ProtocolFailed

AddressCheck = Callable[[IPv4Address | IPv6Address], None]

# Seconds: how long one look-up may take, and how long a name that isn't known here is not asked
# for again. A name server that is silent holds a thread for longer than we wait.
_LOOK_UP_S: Final = 2.0
_UNKNOWN_FOR_S: Final = 60.0
_NAMES: Final = 1000
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_IPV6: Final = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*")


class Targets:
    """Judges hosts by the addresses that they stand for.

    Args:
        check: raises for an address that must not be reached (anything it raises refuses).
    """

    def __init__(self, check: AddressCheck) -> None:
        self._check = check
        self._unknown: dict[str, float] = {}

    async def check(self, host: str) -> None:
        """Pass a host, without brackets, that a proxy may be asked for.

        Raises:
            AddressRefused: it is, or may lead to, an address that is refused.
            ProtocolFailed: `url_malformed`: neither a name nor an address; proxies might read it
                in some other way.
        """
        name = host.lower()
        if not (_NAME.fullmatch(name) or _IPV6.fullmatch(name)):
            raise ProtocolFailed("url_malformed")
        name = name.rstrip(".")
        literal = _literal(name)
        addresses = [literal] if literal is not None else await self._look_up(name)
        for address in addresses:
            try:
                self._check(address)
            except Exception:  # noqa: BLE001 - a check that fails must refuse, whatever it raised
                raise AddressRefused from None

    async def _look_up(self, name: str) -> list[IPv4Address | IPv6Address]:
        """All addresses of a name; none where it isn't known here."""
        if time.monotonic() < self._unknown.get(name, 0.0):
            return []
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                found = await loop.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            if len(self._unknown) >= _NAMES:
                self._unknown.clear()
            self._unknown[name] = time.monotonic() + _UNKNOWN_FOR_S
            return []
        return [ip_address(address[0]) for *_, address in found]


def _literal(name: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, in whichever form; None for a name."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(name)
    except ValueError:
        pass
    if ":" in name or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise AddressRefused
    return None
