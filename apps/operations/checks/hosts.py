"""Steps that any host is checked by: its name, its certificate. And fetching it, for pinning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from apps.diagnosis.registry import Step
from apps.exchange import guard
from apps.tenants.ews_urls import normal_url
from apps.wire import certificates
from apps.wire.certificates import Shown
from apps.wire.client import AddressCheck
from apps.wire.errors import AddressRefused, WireError

EXPIRES_SOON: Final = timedelta(days=30)

_ADVICE: Final[dict[str, str]] = {
    "host_not_found": "The name is not in this server's DNS: check its spelling, and the DNS "
    "servers that this machine uses.",
    "connect_failed": "Nothing answers at this port: check firewalls between here and there, and "
    "that the service runs.",
    "deadline_exceeded": "It does not answer in time: a firewall that drops packets, or a server "
    "that is overloaded.",
    "tls_failed": "It speaks no TLS that ENS takes: TLS 1.2 or newer is needed.",
    "proxy_not_found": "The proxy's name is not in this server's DNS.",
    "proxy_unreachable": "Nothing answers at the proxy's address and port.",
    "proxy_address_refused": "ENS does not call a proxy at such an address (loopback, link-local, "
    "metadata).",
    "proxy_refused": "The proxy does not tunnel to this host and port: permit CONNECT to it there.",
    "proxy_wants_other_login": "The proxy wants another kind of login than the settings name.",
    "proxy_login_refused": "The proxy refuses the user or the password.",
    "proxy_login_impossible": "No login at the proxy came about: check user, domain and Kerberos.",
    "proxy_malformed": "What answers there is no HTTP proxy.",
    "proxy_hung_up": "The proxy closed the connection.",
    "address_refused": "ENS does not call such addresses (loopback, link-local, metadata, or "
    "private without leave). For a mail system inside the company's network a system "
    "administrator allows private addresses in its settings.",
}
_OTHER: Final = "The connection broke; try again, and look at what stands between."


def address_check(*, allow_private: bool) -> AddressCheck:
    """The address guard as everything that ENS calls passes it."""
    exceptions = tuple(settings.ENS.guard_exceptions)
    return partial(guard.check, allow_private=allow_private, exceptions=exceptions)


def fetch_certificate(address: str, *, allow_private: bool = False, ca_pem: str = "") -> Shown:
    """The certificates that a host shows, for pinning; `address` is a host or an https address.

    Raises:
        EwsUrlRefused: the address is malformed.
        WireError: no connection, no TLS, or an address that the guard refuses.
    """
    _, url = normal_url(address if "://" in address else f"https://{address}/")
    return certificates.fetch(url, address_check(allow_private=allow_private), ca_pem)


def advice_for(error: WireError) -> str:
    """What to do about a connection that came to nothing."""
    return _ADVICE.get(error.code, _OTHER)


def name_steps(url: str, check: AddressCheck) -> Iterator[Step]:
    """DNS, and whether the guard lets the addresses pass."""
    host = urlsplit(url).hostname or ""
    try:
        found = certificates.addresses(host)
    except WireError as error:
        yield Step("DNS", "failed", f"{host}: {error.code}", advice_for(error))
        return
    passed = []
    for address in found:
        try:
            check(address)
            passed.append(address)
        except AddressRefused:
            continue
    shown = ", ".join(str(address) for address in found)
    if not passed:
        yield Step("DNS", "failed", f"{host}: {shown}", _ADVICE["address_refused"])
    elif len(passed) < len(found):
        advice = "Some of its addresses are not called; the others serve."
        yield Step("DNS", "warning", f"{host}: {shown}", advice)
    else:
        yield Step("DNS", "ok", f"{host}: {shown}")


def tls_steps(shown: Shown, url: str, *, private_cas: bool) -> Iterator[Step]:
    """The certificate's chain, name and time."""
    leaf, host = shown.chain[0], urlsplit(url).hostname
    if shown.trusted:
        yield Step("TLS chain", "ok", f"issued by {leaf.issuer}")
    else:
        advice = (
            "The CA bundle of its settings does not hold the CA that issued it, or the server "
            "does not send the CAs in between."
            if private_cas
            else "If a CA of the company issued it, add that CA to the CA bundle in the settings; "
            "else let the server send the CAs in between, too."
        )
        yield Step("TLS chain", "failed", f"issued by {leaf.issuer}", advice)
    if shown.name_matches:
        yield Step("TLS name", "ok", str(host))
    else:
        names = ", ".join(leaf.names[:5]) or leaf.subject
        advice = f"The certificate is for {names}: use one of these names, or have it issued anew."
        yield Step("TLS name", "failed", str(host), advice)
    yield _expiry(leaf.not_after - timezone.now(), leaf.not_after.date().isoformat())


def _expiry(left: timedelta, day: str) -> Step:
    if left <= timedelta(0):
        return Step("TLS expiry", "failed", day, "The certificate has expired: renew it.")
    if left < EXPIRES_SOON:
        return Step("TLS expiry", "warning", day, "The certificate expires soon: renew it.")
    return Step("TLS expiry", "ok", day)
