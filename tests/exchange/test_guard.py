from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from apps.exchange.guard import check
from apps.wire.client import AddressRefused

ALWAYS_REFUSED = [
    # this host, loopback
    "0.0.0.0",
    "0.1.2.3",
    "0.255.255.255",
    "127.0.0.1",
    "127.0.0.53",
    "127.255.255.255",
    "::",
    "::1",
    # link-local, metadata
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fd00:ec2::254",
    "fd00:42::42",
    "fd20:ce::254",
    # shared (carrier-grade NAT)
    "100.64.0.0",
    "100.127.255.255",
    # multicast, broadcast, reserved
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.254",
    "255.255.255.255",
    "ff00::",
    "ff02::1",
    "ff0e::1",
    "4000::1",
    "5f00::1",
    "100::1",
    # documentation, benchmarking, protocol assignments, anycast relays
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "2001:db8::1",
    "3fff::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    # site-local (deprecated), IPv4-compatible (deprecated)
    "fec0::1",
    "::8.8.8.8",
    "::127.0.0.1",
    # mapped, translated, NAT64: what they carry is refused
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:255.255.255.255",
    "::ffff:100.64.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    # NAT64's local prefix may carry anything
    "64:ff9b:1::1",
    "64:ff9b:1:7f00:0:100::",
    # 6to4 and Teredo, whatever they carry
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
PRIVATE = [
    "10.0.0.0",
    "10.255.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.168.0.0",
    "192.168.255.255",
    "fc00::1",
    "fd12:3456:789a::1",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:10.0.0.1",
    "::ffff:192.168.1.1",
    "::ffff:0:172.16.0.1",
    "64:ff9b::10.0.0.1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "52.96.0.1",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2400:cb00::1",
    "2603:1000::1",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


def permitted(address: str, *, allow_private: bool, exceptions: tuple[str, ...] = ()) -> bool:
    networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in exceptions]
    try:
        check(ip_address(address), allow_private=allow_private, exceptions=networks)
    except AddressRefused:
        return False
    return True


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("address", ALWAYS_REFUSED)
def test_refused_whatever_the_administrator_says(address: str, allow_private: bool) -> None:
    assert not permitted(address, allow_private=allow_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ranges_by_the_administrator_s_word(address: str) -> None:
    assert not permitted(address, allow_private=False)
    assert permitted(address, allow_private=True)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str, allow_private: bool) -> None:
    assert permitted(address, allow_private=allow_private)


@pytest.mark.parametrize(
    ("address", "network", "expected"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("::ffff:127.0.0.1", "127.0.0.0/8", True),
        ("::1", "::1/128", True),
        ("::1", "127.0.0.0/8", False),
        ("127.0.0.1", "::/0", False),
        ("10.0.0.1", "127.0.0.0/8", False),
        ("169.254.169.254", "127.0.0.0/8", False),
        # Both addresses of a tunnel must be excepted, and the tunnel itself.
        ("2002:7f00:1::", "127.0.0.0/8", False),
    ],
)
def test_exceptions_of_the_lab(address: str, network: str, expected: bool) -> None:
    assert permitted(address, allow_private=False, exceptions=(network,)) is expected


def test_nothing_private_slips_through_by_python_s_own_judgement() -> None:
    """Every address of these networks' edges that Python calls not global is refused."""
    for first in range(256):
        for second in (0, 1, 63, 64, 88, 127, 128, 168, 254, 255):
            address = f"{first}.{second}.0.1"
            if not ip_address(address).is_global:
                assert not permitted(address, allow_private=False), address
