"""`_autodiscover._tcp`: the SRV record that names a domain's Autodiscover service. RFC 2782.

https://support.microsoft.com/help/940881
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from apps.exchange.errors import Unreachable

_MOST_RECORDS: Final = 50
_MOST_TARGETS: Final = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One SRV record; `target` is a host name without a dot at its end."""

    priority: int
    weight: int
    port: int
    target: str


class Resolver(Protocol):
    """Who looks SRV records up."""

    async def srv(self, name: str, deadline_s: float) -> Sequence[Record]:
        """The SRV records of a name, none if there are none.

        Raises:
            Unreachable: no name server has answered in time, or they fail.
        """


class DnsResolver:
    """Asks name servers: `address` or `address:port` (IPv6 in brackets), the system's for none.

    The addresses of hosts are never looked up here: the guard judges what is connected, so that a
    name whose addresses change in between gains nothing.
    """

    def __init__(self, name_servers: Sequence[str] = ()) -> None:
        self._name_servers = [_name_server(one) for one in name_servers]

    async def srv(self, name: str, deadline_s: float) -> Sequence[Record]:
        """See `Resolver.srv`."""
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._name_servers)
            if self._name_servers:
                resolver.nameservers = self._name_servers
            answer = await resolver.resolve(
                name, dns.rdatatype.SRV, lifetime=max(0.1, deadline_s), search=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, ValueError, EOFError):
            # Whatever a name server sends, or a name that is none.
            raise Unreachable("dns") from None
        return [
            Record(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True))
            for one in list(answer)[:_MOST_RECORDS]
        ]


def in_order(records: Iterable[Record]) -> list[Record]:
    """Whom to try first: by priority, and by chance as weighted among equals (RFC 2782)."""
    left = sorted((one for one in records if one.target and one.port), key=lambda r: r.priority)
    chosen: list[Record] = []
    while left and len(chosen) < _MOST_TARGETS:
        equals = [one for one in left if one.priority == left[0].priority]
        # One more than its weight: those that weigh nothing have a small chance, too.
        place = secrets.randbelow(sum(one.weight + 1 for one in equals))
        for one in equals:
            place -= one.weight + 1
            if place < 0:
                chosen.append(one)
                left.remove(one)
                break
    return chosen


def _name_server(text: str) -> dns.nameserver.Nameserver:
    address, bracket, port = text.rpartition("]") if text.startswith("[") else ("", "", "")
    if not bracket:
        address, _, port = text.partition(":")
    return dns.nameserver.Do53Nameserver(address.strip("["), int(port.strip(":") or 53))
