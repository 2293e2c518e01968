"""The Cloud Notification Service: our key, its certificate and pin, and a call to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cryptography import x509
from django.utils import timezone

from apps.cns.configured import shared_client
from apps.cns.errors import CnsUnavailable
from apps.cns.site import CnsNotConfigured, CnsSite, current_site
from apps.diagnosis.registry import Context, Step, check
from apps.operations import secure_channel
from apps.operations.checks import hosts
from apps.wire import background, certificates
from apps.wire.client import AddressCheck
from apps.wire.errors import WireError

_ADVICE: Final[dict[str, str]] = {
    "certificate_unknown": "The relay does not know our secure channel certificate: hand it to the "
    "relay's operator (relay_deployment add).",
    "certificate_revoked": "The relay's operator has revoked our certificate: roll to a new one.",
    "certificate_expired": "Our secure channel certificate has expired: roll to a new one.",
    "clock_mismatch": "The clocks of this server and the relay differ by more than a minute: let "
    "both follow a time server.",
    "audience_mismatch": "ENS_CNS_URL here and ENS_RELAY_AUDIENCE there are not the same address.",
    "version_unsupported": "The relay speaks another version of the protocol: upgrade the older.",
    "tls_failed": "The relay's certificate is not trusted, or its key is not pinned: see above.",
}
_OTHER: Final = "See docs/operations.md, Alerts: relay_unavailable."


@check("relay.channel", title="Cloud Notification Service", area="relay")
def channel(context: Context) -> Iterator[Step]:
    """Our certificate, the relay's, its pin, and a signed call without any push."""
    try:
        site = current_site()
    except CnsNotConfigured as error:
        yield Step("address", "failed", str(error), "Set it in the console or in ens.env.")
        return
    yield Step("address", "ok", site.url)
    yield _own_certificate()
    yield from _relays_certificate(site)
    yield _knock()


def _own_certificate() -> Step:
    signing = secure_channel.signing()
    if signing is None:
        advice = "Make one in the console, or with `manage.py cns_certificate`."
        return Step("secure channel", "failed", "no usable key", advice)
    read = x509.load_pem_x509_certificate(signing.certificate.encode("ascii"))
    left = read.not_valid_after_utc - timezone.now()
    detail = f"{signing.thumbprint}, until {read.not_valid_after_utc.date()}"
    if left < timedelta(days=30):
        return Step("secure channel", "warning", detail, "Roll to a new certificate.")
    return Step("secure channel", "ok", detail)


def _relays_certificate(site: CnsSite) -> Iterator[Step]:
    if not site.url.startswith("https://"):
        yield Step("pin", "skipped", "the address is plain http")
        return
    if site.proxy is not None:
        yield Step("pin", "skipped", "the relay is called through a proxy")
        return
    try:
        shown = certificates.fetch(site.url, _ANY, site.ca_pem)
    except WireError as error:
        yield Step("pin", "failed", error.code, hosts.advice_for(error))
        return
    yield from hosts.tls_steps(shown, site.url, private_cas=bool(site.ca_pem))
    pin = shown.chain[0].pin
    if not site.pins:
        yield Step("pin", "warning", pin, "No pin is set: pin this certificate and the next.")
    elif pin in site.pins:
        yield Step("pin", "ok", pin)
    else:
        advice = "It is none of the pins: if the relay's operator has renewed it, add this one."
        yield Step("pin", "failed", pin, advice)


def _anywhere(address: object) -> None:
    """The relay's address is the operator's own setting, and may be on this very machine."""


_ANY: Final[AddressCheck] = _anywhere


def _knock() -> Step:
    try:
        code = background.run(shared_client().knock(), 25)
    except CnsNotConfigured as error:
        return Step("signed call", "failed", str(error), "Set it in ens.env.")
    except CnsUnavailable as error:
        advice = _ADVICE.get(error.code, _OTHER)
        return Step("signed call", "failed", error.code, advice)
    if code == "ok":
        return Step("signed call", "ok", "the relay knows us")
    return Step("signed call", "failed", code, _ADVICE.get(code, _OTHER))
