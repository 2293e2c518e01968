"""Reading the address of a mail server strictly, so that no two readers can disagree about it.

What a browser would forgive (backslashes, user names, numbers for addresses, dots at the end) is
refused here: those forms exist in the wild only to get past a list of allowed hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import idna

_MAX_URL = 1000  # MailSystem.default_ews_url
_MAX_HOST = 253
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:-]*)*")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# A last label like this makes inet_aton, and with it many resolvers, read a number.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))

Network = IPv4Network | IPv6Network


class EwsUrlRefused(Exception):
    """The address of a mail server may not be called. `code` says why; the address isn't in it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def normal_host(text: str) -> str:
    """Write a host as it is listed and compared: lower-case A-labels, `:port` unless it is 443.

    Raises:
        EwsUrlRefused: `ews_url_malformed` for anything but a DNS name, a dotted IPv4 address or an
            IPv6 address in brackets, each with an optional port.
    """
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise EwsUrlRefused("ews_url_malformed")
    host, port = found[1], int(found[2] or 443)
    if port > 65535:
        raise EwsUrlRefused("ews_url_malformed")
    try:
        normal = _ipv6(host) if host.startswith("[") else _name_or_ipv4(host)
    except ValueError:  # what ipaddress and idna raise holds the address
        raise EwsUrlRefused("ews_url_malformed") from None
    return normal if port == 443 else f"{normal}:{port}"


def normal_domain(text: str) -> str:
    """Write an SMTP domain as it is listed and compared: lower-case A-labels.

    Raises:
        EwsUrlRefused: `smtp_domain_malformed` for anything but a DNS name.
    """
    try:
        name = _name_or_ipv4(text)
    except ValueError:  # what ipaddress and idna raise holds the domain
        raise EwsUrlRefused("smtp_domain_malformed") from None
    if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        raise EwsUrlRefused("smtp_domain_malformed")
    return name


def _ipv6(host: str) -> str:
    return f"[{IPv6Address(host[1:-1]).compressed}]"


def _name_or_ipv4(host: str) -> str:
    name = host.lower()
    if len(name) > _MAX_HOST:
        raise ValueError
    # IDNA 2008 after UTS 46's mapping, as browsers do it; xn-- labels are checked as well.
    if not name.isascii() or "xn--" in name:
        name = idna.encode(name, uts46=True, std3_rules=True).decode()
    if not _DNS_NAME.fullmatch(name):
        raise ValueError
    if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]):
        if not host.isascii():
            raise ValueError
        IPv4Address(name)  # strict: four decimal numbers without leading zeros
    return name


def normal_url(url: str) -> tuple[str, str]:
    """Parse an EWS address; returns its host as `normal_host` writes it, and the whole address.

    Raises:
        EwsUrlRefused: `ews_url_scheme` (not https), `ews_url_userinfo` or `ews_url_malformed`.
    """
    if len(url) > _MAX_URL or "\\" in url or not url.isprintable() or " " in url:
        raise EwsUrlRefused("ews_url_malformed")
    if url[:8].lower() != "https://":
        raise EwsUrlRefused("ews_url_scheme")
    authority, slash, rest = url[8:].partition("/")
    if "@" in authority:
        raise EwsUrlRefused("ews_url_userinfo")
    path = slash + rest
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise EwsUrlRefused("ews_url_malformed")
    host = normal_host(authority)
    return host, f"https://{host}{path or '/'}"


def refuse_special_address(host: str, exceptions: Iterable[Network]) -> None:
    """Refuse a host, as `normal_host` writes it, that is an address no mail server can have.

    This saves the connection: the guard on the connected address is what protects.

    Raises:
        EwsUrlRefused: `ews_url_address_refused` for `localhost` and for literals of loopback,
            link-local, multicast, unspecified, reserved and translated addresses outside
            `exceptions`.
    """
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    address = _address(name)
    if address is None or any(address in network for network in exceptions):
        return
    if (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or (isinstance(address, IPv6Address) and _is_translated(address))
    ):
        raise EwsUrlRefused("ews_url_address_refused")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return IPv4Address("127.0.0.1")
    if name.startswith("["):
        return IPv6Address(name[1:-1])
    return IPv4Address(name) if _NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]) else None


def _is_translated(address: IPv6Address) -> bool:
    """Whether an IPv4 address hides in it: nobody writes such an address of a mail server."""
    return (
        address.ipv4_mapped is not None
        or address.sixtofour is not None
        or address.teredo is not None
        or any(address in network for network in _NAT64)
    )
