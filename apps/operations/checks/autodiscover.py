"""Autodiscover: which of a domain's places answer, what they offer, and where they lead to."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

from django.conf import settings

from apps.diagnosis.registry import Context, Step, check
from apps.exchange.autodiscover import pox, soap
from apps.exchange.autodiscover.service import by_plain_http, candidates, domain_of
from apps.exchange.autodiscover.srv import DnsResolver, Record, in_order
from apps.exchange.diagnosis import judge
from apps.exchange.errors import (
    AutodiscoverFailed,
    AutodiscoverHostNotAllowed,
    CredentialsRefused,
    ExchangeError,
)
from apps.exchange.interface import Credentials, Endpoint, Reach
from apps.exchange.transport import Transport
from apps.operations.checks import hosts
from apps.operations.checks.exchange import barred, note_refused, systems
from apps.subscriptions.addresses import reach_of
from apps.subscriptions.runtime import mail_server
from apps.tenants.models import MailSystem
from apps.wire import background, certificates
from apps.wire.certificates import Via
from apps.wire.errors import WireError

T = TypeVar("T")

_MOST_DOMAINS: Final = 10
_PLACE_S: Final = 4.0
_DEADLINE_S: Final = 15.0
# Of HTTPS and plain HTTP.
PORTS: tuple[int, int] = (443, 80)
_HOW: Final = (
    "Publish Autodiscover for the domain (a host autodiscover.<domain>, or the SRV record), list "
    "its host in the mail system, or enter a default EWS address there."
)
_LIST_IT: Final = "Add the host to the mail system if it is yours: ENS sends passwords to no other."


@check("exchange.autodiscover", title="Autodiscover", area="exchange", deployment_wide=False)
def autodiscover(context: Context) -> Iterator[Step]:
    """Each place of each domain, asked without credentials; with a test mailbox all the way."""
    left = _MOST_DOMAINS
    found = False
    for system in systems(context):
        if not system.autodiscover:
            continue
        domains = _domains(system, context)
        if not domains and not system.default_ews_url:
            found = True
            advice = "Enter its mail domains, so that phones without an EWS address find it."
            yield Step("mail domains", "warning", f"{system.name}: none is listed", advice)
        for domain in domains[:left]:
            found = True
            yield from _domain(system, domain)
        left -= len(domains[:left])
        yield from _whole_way(system, domains, context)
    if not found:
        yield Step("Autodiscover", "skipped", "no mail system needs it")


def _domains(system: MailSystem, context: Context) -> list[str]:
    """Those that are listed; where none is, that of the test mailbox."""
    if system.smtp_domains or not context.address:
        return list(system.smtp_domains)
    try:
        return [domain_of(context.address)]
    except AutodiscoverFailed:
        return []


def _domain(system: MailSystem, domain: str) -> Iterator[Step]:
    where, reach = candidates(domain, PORTS), reach_of(system)
    steps = [_secure(system, reach, base) for base in where.https]
    steps.append(_plain(reach, where.redirect, where.https[-1] + soap.PATH))
    steps += _recorded(reach, where.record)
    yield from steps
    if any(step.status == "ok" for step in steps):
        yield Step("Autodiscover", "ok", f"{domain}: it can be asked")
    elif system.default_ews_url:
        yield Step("Autodiscover", "skipped", f"{domain}: the default EWS address serves")
    else:
        yield Step("Autodiscover", "failed", f"{domain}: nothing that may be asked", _HOW)


def _secure(system: MailSystem, reach: Reach, base: str) -> Step:
    """One place by HTTPS; the request is the one that phones' joins make, without a login."""
    host = urlsplit(base).netloc
    name = f"https://{host}"
    guard = hosts.address_check(allow_private=system.allow_private)
    if reach.permit(base + soap.PATH) is None:
        return _unlisted(name, urlsplit(base).hostname or "")
    endpoint = reach.endpoint
    via = Via(endpoint.proxy, hosts.address_check(allow_private=True), endpoint.tls_floor)
    agent = f"User-Agent: MailNotificationService/v2 (EWS/{settings.ENS_VERSION})"
    headers = (agent, "Content-Type: text/xml; charset=utf-8", "Content-Length: 0")
    answered = []
    for kind, path in (("SOAP", soap.PATH), ("POX", pox.PATH)):
        try:
            answer = certificates.ask(
                base + path, guard, method="POST", headers=headers, via=via, deadline_s=_PLACE_S
            )
        except WireError as error:
            return Step(name, "warning", error.code, hosts.advice_for(error))
        if endpoint.gateway is not None and answer.status in endpoint.gateway.refusals:
            detail = f"{kind}: HTTP {answer.status}, as the gateway refuses who names no device"
            return Step(name, "warning", detail, "What stands behind it can't be seen from here.")
        verdict = judge(answer.status, answer.headers)
        if verdict.code == "ews":
            return Step(name, "ok", f"{kind}, offers {', '.join(verdict.offered)}")
        answered.append(f"{kind}: HTTP {answer.status}")
    advice = "Something answers there, but no Autodiscover: it is no fault if another place does."
    return Step(name, "warning", "; ".join(answered), advice)


def _unlisted(name: str, host: str) -> Step:
    try:
        certificates.addresses(host)
    except WireError:
        return Step(name, "skipped", "no such name in DNS, and not listed")
    advice = "If Autodiscover answers there, add the host to the mail system."
    return Step(name, "skipped", "not among the hosts of the mail system, not asked", advice)


def _plain(reach: Reach, url: str, secure: str) -> Step:
    name = "redirect by plain HTTP"
    endpoint = by_plain_http(reach, url, secure)
    if endpoint is None:
        return Step(name, "skipped", "no proxy is asked for a host that is not listed", _LIST_IT)
    try:
        location = _run(_redirect_of(endpoint))
    except ExchangeError as error:
        return Step(name, "skipped", f"{urlsplit(url).netloc}: {error.code}")
    if not location:
        return Step(name, "skipped", "it does not lead elsewhere")
    try:
        return _leads_to(reach, name, urljoin(url, location))
    except ValueError:  # half of an IPv6 address
        return _leads_to(reach, name, "")


async def _redirect_of(endpoint: Endpoint) -> str:
    transport = Transport(settings.ENS_VERSION)
    try:
        return await transport.redirect_of(endpoint, _PLACE_S)
    finally:
        await transport.close()


def _recorded(reach: Reach, record: str) -> list[Step]:
    name = "SRV record"
    try:
        records = _run(_records(record))
    except ExchangeError:
        advice = "The name servers of this machine (or ENS_DNS_SERVERS) do not answer for it."
        return [Step(name, "warning", f"{record}: no answer", advice)]
    found = in_order(records)
    if not found:
        return [Step(name, "skipped", f"{record}: there is none")]
    return [
        _leads_to(reach, name, f"https://{one.target.lower()}:{one.port}{pox.PATH}")
        for one in found
    ]


async def _records(record: str) -> list[Record]:
    return list(await DnsResolver(settings.ENS.dns_servers).srv(record, _PLACE_S))


def _leads_to(reach: Reach, name: str, url: str) -> Step:
    try:
        host = urlsplit(url).netloc[:260]
    except ValueError:
        host = "?"
    if reach.permit(url) is None:
        return Step(name, "warning", f"leads to {host}, which is not listed", _LIST_IT)
    return Step(name, "ok", f"leads to {host}")


def _whole_way(system: MailSystem, domains: list[str], context: Context) -> Iterator[Step]:
    """With the test mailbox: what a phone of its user would be told."""
    name = "EWS address of the test mailbox"
    if not (context.username and context.password and context.address):
        return
    try:
        if domain_of(context.address) not in domains:
            return
    except AutodiscoverFailed:
        return
    step = barred(context)
    if step is not None:
        yield step
        return
    credentials = Credentials(type="basic", username=context.username, password=context.password)
    try:
        url = _run(
            mail_server().discover(reach_of(system), credentials, context.address, _DEADLINE_S)
        )
    except CredentialsRefused:
        yield note_refused(context)
    except AutodiscoverHostNotAllowed as refused:
        led = ", ".join(refused.hosts)
        yield Step(name, "failed", f"on {led}, which is not listed", _LIST_IT)
    except ExchangeError as error:
        yield Step(name, "failed", error.code, "See the steps above.")
    else:
        yield Step(name, "ok", url)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return background.run(coroutine, _DEADLINE_S + 5)
