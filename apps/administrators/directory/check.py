"""The check of the company's directory, for `diagnose` and the console's Diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from django.conf import settings

from apps.administrators.directory import ask
from apps.diagnosis.registry import Context, Step, check
from apps.tenants.models import OrganizationGroup

_CONNECT: Final = (
    "Is the server up, and does a firewall let us through? Is its certificate issued by a CA of "
    "ENS_LDAP_CA_FILE (on Windows: of the computer's own store) for the very name in "
    "ENS_LDAP_URLS? Does it offer TLS (ldaps://) or StartTLS (ldap://)?"
)
_ADVICE: Final = {
    "connect": _CONNECT,
    "bind": "The server does not take ENS_LDAP_BIND_NAME with its password: a wrong or expired "
    "password, or a locked account.",
    "base": "There is nothing at ENS_LDAP_USER_BASE that the service account may see.",
    "search": "The service account may not search here, or ENS_LDAP_USER_FILTER is malformed.",
    "library": "The library can't be used: pip install -r requirements-ldap.txt",
}


@check("administrators.directory", title="The company's directory", area="administrators")
def directory(context: Context) -> Iterator[Step]:
    """Each server: connect, TLS, bind, look at the base and at the groups."""
    if not ask.is_configured():
        yield Step("directory", "skipped", "administrators do not sign in with a directory")
        return
    if find_spec("bonsai") is None:
        yield Step("library", "failed", "not installed", _ADVICE["library"])
        return
    for url in settings.ENS.ldap_urls:
        yield from _server(url)
    yield from _groups_of_ours()


def _server(url: str) -> Iterator[Step]:
    answer = ask.ask(url, verb="test")
    if answer.outcome == "failed":
        yield Step(url, "failed", f"{answer.stage}: {answer.error}", _ADVICE[answer.stage])
        return
    if not ask.has_service_account():
        yield Step(url, "ok", "connected, with TLS; without a service account nothing can be read")
        return
    yield Step(url, "ok", "connected, with TLS; the service account sees the base")
    for place, group in enumerate(settings.ENS.ldap_groups):
        if place not in answer.groups:
            advice = "It is not there, or the service account may not see it: see ENS_LDAP_GROUPS."
            yield Step(url, "warning", f"group not found: {group.dn}", advice)


def _groups_of_ours() -> Iterator[Step]:
    guids = {group.og for group in settings.ENS.ldap_groups if group.og is not None}
    known = set(OrganizationGroup.objects.filter(guid__in=guids).values_list("guid", flat=True))
    for guid in sorted(guids - known, key=str):
        advice = "Who is given a role there by ENS_LDAP_GROUPS gets none."
        yield Step("organization groups", "warning", f"there is no group {guid}", advice)
