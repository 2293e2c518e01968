"""Which mail servers an organization group may use."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from django.conf import settings

from apps.tenants import ways
from apps.tenants.ews_urls import EwsUrlRefused, normal_host, normal_url, refuse_special_address
from apps.tenants.models import MailSystem, OrganizationGroup


def add_mail_system(
    og: OrganizationGroup,
    name: str,
    hosts: Sequence[str],
    *,
    default_ews_url: str = "",
    ca_pem: str = "",
    allow_private: bool = False,
    tls_floor: str = MailSystem.TlsFloor.TLS_1_2,
    gateway: bool = False,
    gateway_headers: Sequence[str] = (),
    gateway_refusals: Sequence[int] = (),
) -> MailSystem:
    """List a mail system of a group; the hosts, the default address and the way are checked first.

    Raises:
        WayRefused: a header or status of the gateway's that can't be.
        EwsUrlRefused: a host or the default address may not be called, or the default address is
            on none of the hosts (`ews_url_not_listed`).
    """
    listed, default_ews_url = checked(hosts, default_ews_url)
    return MailSystem.objects.create(
        og=og,
        name=name,
        hosts=listed,
        default_ews_url=default_ews_url,
        ca_pem=ca_pem,
        allow_private=allow_private,
        tls_floor=tls_floor,
        gateway=gateway,
        gateway_headers=ways.header_lines(gateway_headers),
        gateway_refusals=ways.refusals(gateway_refusals),
    )


def checked(hosts: Sequence[str], default_ews_url: str) -> tuple[list[str], str]:
    """Hosts and default address as they are stored.

    Raises:
        EwsUrlRefused: see `add_mail_system`.
    """
    listed = sorted({normal_host(host) for host in hosts})
    for host in listed:
        refuse_special_address(host, settings.ENS.guard_exceptions)
    if default_ews_url:
        host, default_ews_url = normal_url(default_ews_url)
        if host not in listed:
            raise EwsUrlRefused("ews_url_not_listed")
    return listed, default_ews_url


def check_ca_pem(pem: str) -> None:
    """Make sure that a CA bundle holds certificates in PEM, and nothing else but text.

    Raises:
        ValueError: it doesn't.
    """
    x509.load_pem_x509_certificates(pem.encode("ascii"))


def mail_system_for(og: OrganizationGroup, ews_url: str | None) -> tuple[MailSystem, str]:
    """The own or inherited mail system that lists the host of an address, and that address.

    Nearer groups go before their ancestors. Without an address, the nearest default is taken.

    Raises:
        EwsUrlRefused: with the code `ews_url_missing` (none given and no default),
            `ews_url_not_listed`, `ews_url_address_refused`, or one of `normal_url`.
    """
    systems = list(
        MailSystem.objects.filter(og__path__in=og.line_paths()).order_by("-og__depth", "id")
    )
    if ews_url is None:
        ews_url = next((s.default_ews_url for s in systems if s.default_ews_url), None)
        if ews_url is None:
            raise EwsUrlRefused("ews_url_missing")
    host, url = normal_url(ews_url)
    refuse_special_address(host, settings.ENS.guard_exceptions)
    for system in systems:
        if host in system.hosts:
            return system, url
    raise EwsUrlRefused("ews_url_not_listed")


def lists(system: MailSystem, ews_url: str) -> bool:
    """Whether a mail system still lists the host of an address that it once permitted."""
    try:
        host, _ = normal_url(ews_url)
    except EwsUrlRefused:
        return False
    return host in system.hosts
