"""The address guard: ENS runs no errands into networks that strangers must not reach.

Whoever names a server (a device names its EWS URL, DNS names addresses) must not make ENS talk
to the machine it runs on, to its cloud's metadata service, or to what only looks like a public
address: forms that carry an IPv4 address are decoded and that one is judged. Ranges are those of
https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from apps.wire.client import AddressRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PRIVATE_4 = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_REFUSED_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata service lives here too
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host agent, reachable from every machine there
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",  # reserved, and the broadcast address
        ),
    )
)
_PRIVATE_6 = IPv6Network("fc00::/7")
_GLOBAL_6 = IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: ORCHID, benchmarking, AS112 and others
            "2001:db8::/32",
            "2002::/16",  # 6to4, whose embedded address is judged before
            "3fff::/20",
            "fd00:42::42/128",  # metadata services of clouds, inside the private range
            "fd00:ec2::/32",
            "fd20:ce::254/128",
        ),
    )
)
# Prefixes whose last 32 bits are an IPv4 address: mapped (RFC 4291), translated (RFC 2765),
# NAT64's well-known prefix (RFC 6052).
_CARRY_4 = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))


def check(address: Address, *, allow_private: bool, exceptions: Iterable[Network] = ()) -> None:
    """Refuse an address that ENS must not connect to.

    Args:
        address: the address about to be connected.
        allow_private: whether 10/8, 172.16/12, 192.168/16 and fc00::/7 are permitted.
        exceptions: networks that are permitted whatever else is said (the lab's loopback).

    Raises:
        AddressRefused: loopback, link-local, metadata, multicast, reserved, documentation,
            shared or private address, also in mapped, translated, NAT64, 6to4 and Teredo form.
    """
    exempt = tuple(exceptions)
    for candidate in _decoded(address):
        if any(candidate.version == net.version and candidate in net for net in exempt):
            continue
        if not (
            _permitted_4(candidate, allow_private)
            if isinstance(candidate, IPv4Address)
            else _permitted_6(candidate, allow_private)
        ):
            raise AddressRefused


def _decoded(address: Address) -> tuple[Address, ...]:
    """The addresses that packets to `address` may end up at."""
    if isinstance(address, IPv4Address):
        return (address,)
    if any(address in network for network in _CARRY_4):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.teredo is not None:
        # Refused even with two harmless addresses: the relay is anybody's.
        return (*address.teredo, address)
    if address.sixtofour is not None:
        return (address.sixtofour, address)
    return (address,)


def _permitted_4(address: IPv4Address, allow_private: bool) -> bool:
    if any(address in network for network in _PRIVATE_4):
        return allow_private
    return not any(address in network for network in _REFUSED_4)


def _permitted_6(address: IPv6Address, allow_private: bool) -> bool:
    if any(address in network for network in _REFUSED_6):
        return False
    if address in _PRIVATE_6:
        return allow_private
    return address in _GLOBAL_6
