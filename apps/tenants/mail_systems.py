"""Which mail servers an organization group may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from django.conf import settings

from apps.tenants import ways
from apps.tenants.ews_urls import (
    EwsUrlRefused,
    normal_domain,
    normal_host,
    normal_url,
    refuse_special_address,
)
from apps.tenants.models import MailSystem, OrganizationGroup

# As long as the columns that keep addresses of EWS.
MOST_URL: Final = 500


def add_mail_system(
    og: OrganizationGroup,
    name: str,
    hosts: Sequence[str],
    *,
    default_ews_url: str = "",
    ca_pem: str = "",
    allow_private: bool = False,
    smtp_domains: Sequence[str] = (),
    autodiscover: bool = True,
    tls_floor: str = MailSystem.TlsFloor.TLS_1_2,
    gateway: bool = False,
    gateway_headers: Sequence[str] = (),
    gateway_refusals: Sequence[int] = (),
) -> MailSystem:
    """List a mail system of a group; all that can be wrong is checked first.

    Raises:
        EwsUrlRefused: a host or the default address may not be called, the default address is
            on none of the hosts (`ews_url_not_listed`), or a domain is none
            (`smtp_domain_malformed`).
        WayRefused: a header or status of the gateway's that can't be.
    """
    domains = checked_domains(smtp_domains)
    listed, default_ews_url = checked(hosts, default_ews_url)
    return MailSystem.objects.create(
        og=og,
        name=name,
        hosts=listed,
        default_ews_url=default_ews_url,
        ca_pem=ca_pem,
        allow_private=allow_private,
        smtp_domains=domains,
        autodiscover=autodiscover,
        tls_floor=tls_floor,
        gateway=gateway,
        gateway_headers=ways.header_lines(gateway_headers),
        gateway_refusals=ways.refusals(gateway_refusals),
    )


def checked_domains(domains: Sequence[str]) -> list[str]:
    """SMTP domains as they are stored; a leading `@` is forgiven.

    Raises:
        EwsUrlRefused: `smtp_domain_malformed`.
    """
    return sorted({normal_domain(domain.strip().removeprefix("@")) for domain in domains})


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


def mail_system_for(
    og: OrganizationGroup, ews_url: str | None, address: str
) -> tuple[MailSystem, str]:
    """The own or inherited mail system of a mailbox, and the address of its EWS.

    That address is empty where Autodiscover has to find it. Nearer groups go before their
    ancestors. With an EWS address, the mail system is the one that lists its host; without one,
    the nearest that lists the SMTP domain of `address`, else the nearest with a default address,
    else the only one that has Autodiscover.

    Raises:
        EwsUrlRefused: with the code `ews_url_missing` (none given, and none can be found),
            `ews_url_not_listed`, `ews_url_address_refused`, or one of `normal_url`.
    """
    rows = MailSystem.objects.filter(og__path__in=og.line_paths())
    systems = list(rows.order_by("-og__depth", "id"))
    if ews_url is not None:
        return _listing(systems, ews_url)
    system = _by_domain(systems, address)
    if system is None:
        system = next((s for s in systems if s.default_ews_url), None)
    if system is None:
        discovering = [s for s in systems if s.autodiscover]
        system = discovering[0] if len(discovering) == 1 else None
    if system is None or not (system.default_ews_url or system.autodiscover):
        raise EwsUrlRefused("ews_url_missing")
    if not system.default_ews_url:
        return system, ""
    return _listing([system], system.default_ews_url)


def _listing(systems: Sequence[MailSystem], ews_url: str) -> tuple[MailSystem, str]:
    host, url = normal_url(ews_url)
    refuse_special_address(host, settings.ENS.guard_exceptions)
    for system in systems:
        if host in system.hosts:
            return system, url
    raise EwsUrlRefused("ews_url_not_listed")


def _by_domain(systems: Sequence[MailSystem], address: str) -> MailSystem | None:
    try:
        domain = normal_domain(address.strip().rpartition("@")[2])
    except EwsUrlRefused:
        return None
    return next((system for system in systems if domain in system.smtp_domains), None)


def permitted(system: MailSystem, url: str) -> str | None:
    """An https address as it is stored, if it is on a host that the mail system lists."""
    try:
        host, normal = normal_url(url)
        refuse_special_address(host, settings.ENS.guard_exceptions)
    except EwsUrlRefused:
        return None
    return normal if host in system.hosts and len(normal) <= MOST_URL else None


def lists(system: MailSystem, ews_url: str) -> bool:
    """Whether a mail system still lists the host of an address that it once permitted."""
    try:
        host, _ = normal_url(ews_url)
    except EwsUrlRefused:
        return False
    return host in system.hosts
