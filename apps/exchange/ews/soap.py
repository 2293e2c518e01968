"""SOAP around every EWS operation: envelopes out, hardened XML in, errors with types.

Requests are escaped templates, which cost a micro-second where building a tree costs fifty. They
stay at the level of Exchange 2010 SP2, the last schema that Exchange 2010 SP3 knows, save for the
one that asks for previews.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from apps.exchange.errors import (
    BRIEF_BACK_OFF_S,
    DEFAULT_BACK_OFF_S,
    MAX_BACK_OFF_S,
    CredentialsRefused,
    EwsError,
    ExchangeError,
    Forbidden,
    ItemNotFound,
    MailboxMoving,
    MailboxNotFound,
    NonPrimaryAddress,
    NotEws,
    ServerBusy,
    StoreUnavailable,
    SubscriptionUrlRefused,
    TooManyConnections,
    TooManyObjects,
    TooManySubscriptions,
    VersionRefused,
)
from apps.exchange.ews import response_codes

# The schemas that requests are written in: what every Exchange knows, and what knows previews.
OLDEST = "Exchange2010_SP2"
WITH_PREVIEWS = "Exchange2013"

SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
MESSAGES = "{http://schemas.microsoft.com/exchange/services/2006/messages}"
TYPES = "{http://schemas.microsoft.com/exchange/services/2006/types}"
ERRORS = "{http://schemas.microsoft.com/exchange/services/2006/errors}"

INBOX = '<t:DistinguishedFolderId Id="inbox"/>'


_ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?>'
    f'<s:Envelope xmlns:s="{SOAP[1:-1]}" xmlns:m="{MESSAGES[1:-1]}" xmlns:t="{TYPES[1:-1]}">'
    '<s:Header><t:RequestServerVersion Version="%s"/></s:Header>'
    "<s:Body>%s</s:Body></s:Envelope>"
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESPONSE_CODE = re.compile(r"[A-Za-z0-9]{1,80}")
_FORBIDDEN_REFERENCE = re.compile(rb"&#(?:x([0-9a-fA-F]{1,8})|([0-9]{1,10}));")
# Each costs a call; no subject has so many, and two megabytes of them would hold up the loop.
_MOST_REPAIRED = 5_000
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")

# The encoding is fixed: a declared UTF-7 or UTF-16 could hide a DOCTYPE from the byte search.
_PARSER = etree.XMLParser(
    encoding="utf-8",
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    dtd_validation=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)

_WRAPPER = "ErrorInternalServerError"
# With the seconds to wait where the answer names none.
_BUSY: tuple[tuple[frozenset[str], type[ServerBusy], float], ...] = (
    (response_codes.BUSY, ServerBusy, DEFAULT_BACK_OFF_S),
    (response_codes.TOO_MANY_CONNECTIONS, TooManyConnections, BRIEF_BACK_OFF_S),
    (response_codes.TOO_MANY_OBJECTS, TooManyObjects, DEFAULT_BACK_OFF_S),
)
_TYPED: dict[frozenset[str], type[ExchangeError]] = {
    response_codes.CREDENTIALS: CredentialsRefused,
    response_codes.FORBIDDEN: Forbidden,
    response_codes.ITEM_NOT_FOUND: ItemNotFound,
    response_codes.MAILBOX_NOT_FOUND: MailboxNotFound,
    response_codes.MOVING: MailboxMoving,
    response_codes.STORE_UNAVAILABLE: StoreUnavailable,
    response_codes.TOO_MANY_SUBSCRIPTIONS: TooManySubscriptions,
    response_codes.URL_REFUSED: SubscriptionUrlRefused,
    response_codes.VERSION: VersionRefused,
}


class XmlRefused(Exception):
    """Not the XML we take: malformed, another encoding than UTF-8, or with a DOCTYPE."""


def text(value: str) -> str:
    """Escape character data; what XML can't carry becomes U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", value))


def attribute(value: str) -> str:
    """Escape and quote an attribute's value; what XML can't carry becomes U+FFFD."""
    return quoteattr(_NOT_XML.sub("\ufffd", value))


def envelope(body: str, version: str = OLDEST) -> bytes:
    """A request's bytes around the XML of its body."""
    return (_ENVELOPE % (version, body)).encode()


def parse(raw: bytes) -> etree._Element:
    """Parse XML from outside.

    Raises:
        XmlRefused: malformed, not UTF-8, or with a DOCTYPE (and so with any entity).
    """
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise XmlRefused
    try:
        root = etree.fromstring(raw, _PARSER)
    except (etree.XMLSyntaxError, ValueError):
        raise XmlRefused from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise XmlRefused
    return root


def body_of(root: etree._Element) -> etree._Element:
    """The one element in a SOAP 1.1 envelope's body.

    Raises:
        XmlRefused: not an envelope, or nothing or several things in it.
    """
    if root.tag != f"{SOAP}Envelope":
        raise XmlRefused
    bodies = root.findall(f"{SOAP}Body")
    if len(bodies) != 1 or len(bodies[0]) != 1:
        raise XmlRefused
    return bodies[0][0]


def response_messages(raw: bytes, operation: str) -> list[etree._Element]:
    """The response messages of an operation's answer, good and bad, in the order of the request.

    Raises:
        ExchangeError: the SOAP fault that came instead, by its kind.
        NotEws: neither an answer to this operation nor a fault.
    """
    try:
        content = body_of(_parse_answer(raw))
    except XmlRefused:
        raise NotEws from None
    if content.tag == f"{SOAP}Fault":
        raise error_for(_fault_code(content), content)
    container = content.find(f"{MESSAGES}ResponseMessages")
    if content.tag != f"{MESSAGES}{operation}Response" or container is None:
        raise NotEws
    messages = container.findall(f"{MESSAGES}{operation}ResponseMessage")
    if not messages:
        raise NotEws
    return messages


def checked(message: etree._Element) -> etree._Element:
    """The response message itself, unless it reports an error.

    Raises:
        ExchangeError: by its ResponseCode.
    """
    if message.get("ResponseClass") == "Success":
        return message
    raise error_for(message.findtext(f"{MESSAGES}ResponseCode", ""), message)


def required(element: etree._Element | None, name: str) -> str:
    """An attribute, or with `name` in braces a child's text, that must be there.

    Raises:
        NotEws: it isn't.
    """
    found = None
    if element is not None:
        found = element.findtext(name) if name.startswith("{") else element.get(name)
    if not found:
        raise NotEws
    return found


def time(value: str) -> datetime:
    """An xs:dateTime as an aware datetime in UTC; without a zone it is UTC already.

    Raises:
        ValueError: not a time.
    """
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time") from None


def error_for(response_code: str, details: etree._Element) -> ExchangeError:
    """The typed error of an EWS response code.

    `details` is searched for BackOffMilliseconds:
    https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange
    """
    response_code = _inner(response_code, details)
    for codes, busy, default_s in _BUSY:
        if response_code in codes:
            return busy(_back_off_s(details, default_s))
    if response_code in response_codes.NON_PRIMARY:
        return NonPrimaryAddress(message_value(details, "Primary"))
    for codes, kind in _TYPED.items():
        if response_code in codes:
            return kind()
    known = response_code if _RESPONSE_CODE.fullmatch(response_code) else "Unknown"
    return EwsError(known, transient=known in response_codes.TRANSIENT)


def _parse_answer(raw: bytes) -> etree._Element:
    """Parse, once more without forbidden characters: Exchange passes on what a subject holds."""
    try:
        return parse(raw)
    except XmlRefused:
        repaired = _FORBIDDEN_REFERENCE.sub(_permitted, raw, count=_MOST_REPAIRED)
        cleaned = _CONTROLS.sub(b"?", repaired)
        if cleaned == raw:
            raise
        return parse(cleaned)


def _permitted(reference: re.Match[bytes]) -> bytes:
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    if code > 0x10FFFF or _NOT_XML.match(chr(code)):
        return "\ufffd".encode()
    return reference[0]


def _fault_code(fault: etree._Element) -> str:
    for element in fault.iter(f"{ERRORS}ResponseCode"):
        return element.text or ""
    return (fault.findtext("faultcode") or "").rpartition(":")[2]


def _inner(response_code: str, details: etree._Element) -> str:
    """The code itself, or the one in it: a code newer than the request's schema is wrapped.

    "HTTP 200 … ErrorInternalServerError … An inner ErrorServerBusy error code may be present":
    https://learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange
    """
    if response_code != _WRAPPER:
        return response_code
    inner = message_value(details, "InnerErrorResponseCode")
    return inner if inner in response_codes.DECIDED else response_code


def _back_off_s(details: etree._Element, default_s: float) -> float:
    for value in _values(details, "BackOffMilliseconds"):
        if value.isascii() and value.isdigit() and len(value) < 12:
            return min(int(value) / 1000, MAX_BACK_OFF_S)
    return default_s


def _values(element: etree._Element, name: str) -> Iterator[str]:
    for value in element.iter(f"{TYPES}Value"):
        if value.get("Name") == name and value.text:
            yield value.text.strip()


def message_value(message: etree._Element, name: str) -> str:
    """A named value of a message's MessageXml, or an empty string."""
    return next(_values(message, name), "")
