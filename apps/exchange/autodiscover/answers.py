"""What an Autodiscover service may answer, whichever protocol it was asked in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lxml import etree

from apps.exchange.errors import NotEws
from apps.exchange.ews import soap

# An answer is some 10 KB; of its addresses few are looked at, and no longer ones are kept.
MAX_BYTES = 256 * 1024
_MAX_URLS = 8
_MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Found:
    """The addresses of EWS for this mailbox, the one for callers from outside first."""

    ews_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToAddress:
    """Begin again with this address, which is another name of the same mailbox."""

    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ToUrl:
    """Ask another Autodiscover service."""

    url: str


Answer = Found | ToAddress | ToUrl


def parse(raw: bytes) -> etree._Element:
    """The root element of an answer.

    Raises:
        NotEws: too large, not XML, or with a DOCTYPE.
    """
    if len(raw) > MAX_BYTES:
        raise NotEws
    try:
        return soap.parse(raw)
    except soap.XmlRefused:
        raise NotEws from None


def found(urls: Iterable[str | None]) -> Found:
    """An answer with these addresses, each once, in this order.

    Raises:
        NotEws: there are none.
    """
    clean = [url.strip() for url in urls if url and len(url) <= _MAX_TEXT]
    kept = tuple(dict.fromkeys(url for url in clean if url))[:_MAX_URLS]
    if not kept:
        raise NotEws
    return Found(kept)


def target(value: str | None) -> str:
    """Where a redirect leads to.

    Raises:
        NotEws: nowhere, or its text is too long to be an address.
    """
    clean = (value or "").strip()
    if not clean or len(clean) > _MAX_TEXT:
        raise NotEws
    return clean
