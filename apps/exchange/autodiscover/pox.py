"""Autodiscover in plain old XML, which every Exchange speaks.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/pox-autodiscover-web-service-reference-for-exchange
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from apps.exchange.autodiscover import answers
from apps.exchange.errors import MailboxNotFound, NotEws
from apps.exchange.ews import soap

PATH = "/autodiscover/autodiscover.xml"

_SCHEMAS = "http://schemas.microsoft.com/exchange/autodiscover"
_REQUEST = (
    '<?xml version="1.0" encoding="utf-8"?>'
    f'<Autodiscover xmlns="{_SCHEMAS}/outlook/requestschema/2006"><Request>'
    "<EMailAddress>%s</EMailAddress>"
    f"<AcceptableResponseSchema>{_SCHEMAS}/outlook/responseschema/2006a</AcceptableResponseSchema>"
    "</Request></Autodiscover>"
)
_ROOT = f"{{{_SCHEMAS}/responseschema/2006}}Autodiscover"
# Outlook from outside, Outlook from inside, the browser: MS-OXDSCLI, 2.2.4.1.1.2.6.
_TYPES = ("EXPR", "EXCH", "WEB")
# The address is not known, or has no configuration: MS-OXDSCLI, 2.2.4.1.1.3.1.
_NO_MAILBOX = frozenset({"500", "501", "602"})
_MAX_PROTOCOLS = 50


def request(address: str) -> bytes:
    """Ask where the EWS of a mailbox are."""
    return (_REQUEST % soap.text(address)).encode()


def parse(raw: bytes) -> answers.Answer:
    """Read the answer. Errors come in the service's namespace, settings in Outlook's.

    Raises:
        MailboxNotFound: the service knows neither the address nor where else to ask.
        NotEws: any other error, or not an answer of Autodiscover.
    """
    root = answers.parse(raw)
    response = _child(root, "Response")
    if root.tag != _ROOT or response is None:
        raise NotEws
    account = _child(response, "Account")
    error = _child(response, "Error")
    if error is None and account is not None:
        error = _child(account, "Error")
    if error is not None:
        raise MailboxNotFound if _text(error, "ErrorCode") in _NO_MAILBOX else NotEws
    if account is None:
        raise NotEws
    action = (_text(account, "Action") or "settings").lower()
    if action == "redirectaddr":
        return answers.ToAddress(answers.target(_text(account, "RedirectAddr")))
    if action == "redirecturl":
        return answers.ToUrl(answers.target(_text(account, "RedirectUrl")))
    return answers.found(_urls(account))


def _urls(account: etree._Element) -> Iterator[str]:
    protocols = [one for one in account if _name(one) == "protocol"][:_MAX_PROTOCOLS]
    for kind in _TYPES:
        for protocol in protocols:
            if _text(protocol, "Type").upper() == kind:
                yield from _urls_of(protocol)


def _urls_of(protocol: etree._Element) -> Iterator[str]:
    """The availability service's address (ASUrl) is that of EWS; of old servers it is all."""
    for holder in (protocol, *_inner(protocol)):
        yield _text(holder, "EwsUrl")
        yield _text(holder, "ASUrl")


def _inner(protocol: etree._Element) -> Iterator[etree._Element]:
    """WEB holds protocols of its own, for callers from outside and from inside."""
    for side in ("External", "Internal"):
        where = _child(protocol, side)
        inner = None if where is None else _child(where, "Protocol")
        if inner is not None:
            yield inner


def _name(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _child(element: etree._Element, name: str) -> etree._Element | None:
    """By its name only: of namespaces and of capitals (RedirectURL) there are several forms."""
    return next((child for child in element if _name(child) == name.lower()), None)


def _text(element: etree._Element, name: str) -> str:
    child = _child(element, name)
    return "" if child is None else (child.text or "").strip()
