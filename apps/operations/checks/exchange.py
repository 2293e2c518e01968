"""Mail servers: name, certificate, EWS, ways to sign in; with a test mailbox, signing in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from django.conf import settings

from apps.administrators.scope import below
from apps.diagnosis.registry import Context, Step, check
from apps.exchange.diagnosis import Verdict, judge
from apps.exchange.errors import (
    CredentialsRefused,
    ExchangeError,
    Forbidden,
    GatewayRefused,
    MailboxMoving,
    MailboxNotFound,
    NotThisMailbox,
    ServerBusy,
    StoreUnavailable,
    TlsRefused,
    TooManyConnections,
    TooManyObjects,
    VersionRefused,
)
from apps.exchange.gateway import Gateway
from apps.exchange.interface import Credentials
from apps.operations.checks import hosts
from apps.subscriptions.refusals import plain_name
from apps.subscriptions.runtime import mail_server
from apps.subscriptions.way import endpoint_of
from apps.tenants.models import MailSystem
from apps.vault.lookup import lookup_hmac
from apps.wire import background, certificates
from apps.wire.certificates import Via
from apps.wire.client import AddressCheck
from apps.wire.errors import TlsFailed, WireError

_MOST_HOSTS: Final = 20
_DEADLINE_S: Final = 15.0
_REFUSED: Final = "credentials_refused"
_TOO_MANY: Final = "too_many_attempts"
_MOST_WRONG: Final = 3
_WRONG_WITHIN_S: Final = 1800.0
_ADVICE: Final[dict[str, str]] = {
    "nothing_offered": "It asks for credentials but offers no way to sign in: enable Basic "
    "authentication on the EWS virtual directory.",
    "not_found": "There is no EWS at this address: it usually is https://<host>/EWS/Exchange.asmx.",
    "forbidden": "It refuses this server: check IP restrictions, client access rules, and the list "
    "of allowed user agents (EwsAllowList).",
    "redirected": "Something in front asks for a sign-in of its own (a gateway, a portal): let ENS "
    "pass it, or name the address behind it.",
    "open": "It asks for no credentials: this is no EWS, or a page in front of it.",
    "busy": "The server is busy; try again later.",
    "broken": "The server fails by itself: look at IIS and the application pool "
    "MSExchangeServicesAppPool.",
}
_OLD_TLS: Final = (
    "Let Exchange speak TLS 1.2. On its servers, in the registry: Enabled=1 and DisabledByDefault=0"
    " under HKLM\\SYSTEM\\CurrentControlSet\\Control\\SecurityProviders\\SCHANNEL\\Protocols\\"
    "TLS 1.2\\Server (and \\Client, for its calls to ENS); SchUseStrongCrypto=1 and "
    "SystemDefaultTlsVersions=1 under HKLM\\SOFTWARE\\Microsoft\\.NETFramework\\v4.0.30319 and the "
    "same below Wow6432Node; then restart them. Until then the mail system may permit older TLS."
)
# The first that fits.
_SIGN_IN: Final[dict[type[ExchangeError], str]] = {
    CredentialsRefused: "User name or password are wrong, or this account may not sign in so.",
    NotThisMailbox: "The account signs in, but the address is not its own mailbox.",
    MailboxNotFound: "Nobody has this address, or the account has no mailbox: see Get-Recipient.",
    MailboxMoving: "The mailbox is being moved to another database: see Get-MoveRequest.",
    StoreUnavailable: "The mailbox' database is out of reach: see Get-MailboxDatabase -Status.",
    Forbidden: "EWS is switched off for this user or for ENS, or the account is disabled: see "
    "Get-CASMailbox and Get-OrganizationConfig, EwsEnabled and EwsApplicationAccessPolicy.",
    VersionRefused: "ENS is made for Exchange 2010 SP3 and newer: update the mailbox' server.",
    TooManyConnections: "The user has more calls under way than EwsMaxConcurrency permits.",
    TooManyObjects: "The mailbox' sessions hold too many objects open: close other programs.",
    ServerBusy: "Exchange throttles this account; try again later.",
    TlsRefused: "See the steps above about its certificate.",
    GatewayRefused: "The gateway lets only requests for devices through that it knows, so this "
    "can't be tried from here: look at the story of a phone.",
}


def systems(context: Context) -> list[MailSystem]:
    """The mail systems that a diagnosis is about."""
    rows = below(MailSystem.objects.select_related("og"), context.og_paths, "og__path")
    if context.mail_system is not None:
        rows = rows.filter(pk=context.mail_system)
    return list(rows.order_by("og__path", "name"))


def _urls(context: Context) -> Iterator[tuple[MailSystem, str]]:
    """Each listed host with its EWS address, as far as one can know it."""
    left = _MOST_HOSTS
    for system in systems(context):
        for host in system.hosts:
            default = system.default_ews_url
            known = default.startswith((f"https://{host}/", f"https://{host}:"))
            yield system, default if known else f"https://{host}/EWS/Exchange.asmx"
            left -= 1
            if not left:
                return


@check("exchange.reach", title="Mail servers", area="exchange", deployment_wide=False)
def reach(context: Context) -> Iterator[Step]:
    """DNS, certificate, EWS and the ways to sign in, for each host of the mail systems."""
    found = False
    for system, url in _urls(context):
        found = True
        yield from _host(system, url)
    if not found:
        advice = "List the hosts of your Exchange in a mail system: no host listed, none allowed."
        yield Step("mail systems", "warning", "no host is listed", advice)


def _host(system: MailSystem, url: str) -> Iterator[Step]:
    guard = hosts.address_check(allow_private=system.allow_private)
    endpoint = endpoint_of(system, url)
    proxy = endpoint.proxy
    via = Via(proxy, hosts.address_check(allow_private=True), endpoint.tls_floor)
    if proxy is None:
        steps = list(hosts.name_steps(url, guard))
        yield from steps
        if any(step.status == "failed" for step in steps):
            return
    else:
        yield Step("proxy", "ok", f"{proxy.host}:{proxy.port} looks the name up and connects")
    try:
        shown = certificates.fetch(url, guard, system.ca_pem, via=via)
        yield from hosts.tls_steps(shown, url, private_cas=bool(system.ca_pem))
        yield from _old_tls_permitted(url, guard, via)
        # The agent as administrators have it on their lists.
        agent = f"User-Agent: MailNotificationService/v2 (EWS/{settings.ENS_VERSION})"
        headers = (agent, "Content-Type: text/xml; charset=utf-8", "Content-Length: 0")
        answer = certificates.ask(url, guard, method="POST", headers=headers, via=via)
    except TlsFailed as error:
        yield _no_tls(url, guard, via, error)
        return
    except WireError as error:
        yield Step("connection", "failed", f"{url}: {error.code}", hosts.advice_for(error))
        return
    if endpoint.gateway is not None:
        step = _gateway(endpoint.gateway, answer.status)
        yield step
        if step.status == "ok":
            return
    verdict = judge(answer.status, answer.headers, gateway=endpoint.gateway is not None)
    yield from _ews(verdict, answer.status)
    yield from _products(url)


def _products(url: str) -> Iterator[Step]:
    """What this process has learned of the servers there; before any sign-in that is nothing."""
    for product in mail_server().products(url):
        if product.supported:
            yield Step("version", "ok", product.name)
        else:
            advice = "ENS is made for Exchange 2010 SP3 and newer: update this server."
            yield Step("version", "warning", product.name, advice)


def _no_tls(url: str, guard: AddressCheck, via: Via, error: TlsFailed) -> Step:
    """Whether it is only too old, which is for Exchange to mend."""
    if via.floor != "1.0":
        with suppress(WireError):
            certificates.fetch(url, guard, via=replace(via, floor="1.0"))
            return Step("TLS version", "failed", f"older than TLS {via.floor}", _OLD_TLS)
    return Step("connection", "failed", f"{url}: {error.code}", hosts.advice_for(error))


def _old_tls_permitted(url: str, guard: AddressCheck, via: Via) -> Iterator[Step]:
    """Below TLS 1.2: whether that is still needed."""
    if via.floor == "1.2":
        return
    try:
        certificates.fetch(url, guard, via=replace(via, floor="1.2"))
    except WireError:
        yield Step("TLS version", "warning", f"TLS {via.floor} is permitted, and used", _OLD_TLS)
    else:
        advice = "It speaks TLS 1.2: choose that again in the mail system."
        yield Step("TLS version", "warning", f"TLS {via.floor} is permitted", advice)


def _gateway(gateway: Gateway, status: int) -> Step:
    """What the gateway says to a request that names no device."""
    if status in gateway.refusals:
        detail = f"HTTP {status}: it refuses who names no device, as it should"
        return Step("gateway", "ok", detail)
    advice = (
        "A request that names no device got through: the gateway can't refuse a phone, or it does "
        f"so with another status than {', '.join(map(str, gateway.refusals))}."
    )
    return Step("gateway", "warning", f"HTTP {status}", advice)


def _ews(verdict: Verdict, status: int) -> Iterator[Step]:
    if verdict.code != "ews":
        yield Step("EWS", "failed", f"HTTP {status}", _ADVICE[verdict.code])
        return
    yield Step("EWS", "ok", f"HTTP {status}, as it should be without credentials")
    offered = ", ".join(verdict.offered)
    if verdict.usable:
        yield Step("ways to sign in", "ok", offered)
    else:
        advice = (
            "Enable Basic authentication on the EWS virtual directory (over TLS only). NTLM does, "
            "too, but through no gateway; Negotiate needs Kerberos on this machine."
        )
        yield Step("ways to sign in", "failed", offered, advice)


@check("exchange.sign_in", title="Sign in and look", area="exchange", deployment_wide=False)
def sign_in(context: Context) -> Iterator[Step]:
    """The round trip of a proof with a test mailbox: sign in, name both Inboxes, compare."""
    if not (context.username and context.password and context.address):
        yield Step("sign in", "skipped", "no test mailbox was given")
        return
    for system, url in _urls(context):
        step = _sign_in(system, url, context)
        yield step
        if step.status == "ok":
            yield from _products(url)
        if step.detail in (_REFUSED, _TOO_MANY):
            # The other servers may ask the same directory, which would lock the account.
            return


def barred(context: Context) -> Step | None:
    """Why the test mailbox' credentials are not tried; None if they may be.

    As for phones: refused credentials are never tried again, or the account locks.
    """
    if _tried(context) in _refused:
        return Step("sign in", "skipped", "refused before; not tried again")
    if len(_lately(context)) >= _MOST_WRONG:
        advice = "Several passwords of this account were refused: try again in half an hour."
        return Step("sign in", "skipped", _TOO_MANY, advice)
    return None


def note_refused(context: Context) -> Step:
    """Remember that a server refused the test mailbox' credentials; the step that says so."""
    _wrong[_account(context)] = [*_lately(context), time.monotonic()]
    _refused.add(_tried(context))
    return Step("sign in", "failed", _REFUSED, _SIGN_IN[CredentialsRefused])


def _tried(context: Context) -> str:
    return lookup_hmac("credential", f"diagnose:{context.username}:{context.password}")


def _account(context: Context) -> str:
    return lookup_hmac("credential", f"diagnose:{plain_name(context.username)}")


def _lately(context: Context) -> list[float]:
    since = time.monotonic() - _WRONG_WITHIN_S
    return [at for at in _wrong.get(_account(context), ()) if at > since]


def _sign_in(system: MailSystem, url: str, context: Context) -> Step:
    step = barred(context)
    if step is not None:
        return step
    endpoint = endpoint_of(system, url)
    credentials = Credentials("basic", context.username, context.password)
    proof = mail_server().prove(endpoint, credentials, context.address, _DEADLINE_S)
    try:
        background.run(proof, _DEADLINE_S + 5)
    except CredentialsRefused:
        return note_refused(context)
    except ExchangeError as error:
        known = (advice for kind, advice in _SIGN_IN.items() if isinstance(error, kind))
        return Step("sign in", "failed", error.code, next(known, "See the steps above."))
    return Step("sign in", "ok", "the account's own mailbox answers")


# HMACs of what a mail server refused while this process lives.
_refused: set[str] = set()
# When passwords of an account, by its HMAC, were refused: nobody shall guess here.
_wrong: dict[str, list[float]] = {}
