"""SOAP 1.1 as EWS speaks it: envelopes in, envelopes, messages and faults out.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/ews-xml-elements-in-exchange
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lxml import etree

from .errors import EwsError, NotSoap

Element = etree._Element

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
ERRORS = "http://schemas.microsoft.com/exchange/services/2006/errors"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

_NAMESPACES = {"m": MESSAGES, "t": TYPES}
# The schema wants these containers in a message even when it tells of an error.
_CONTAINERS = {
    "CreateItem": "Items",
    "GetItem": "Items",
    "MoveItem": "Items",
    "UpdateItem": "Items",
    "GetFolder": "Folders",
}
# The schemas that a request may be in, oldest first, and the last that each Exchange knows.
_SCHEMAS = (
    "Exchange2007",
    "Exchange2007_SP1",
    "Exchange2010",
    "Exchange2010_SP1",
    "Exchange2010_SP2",
    "Exchange2013",
    "Exchange2013_SP1",
    "Exchange2015",
    "Exchange2016",
)
_LAST_SCHEMA = {
    (8, 3): "Exchange2007_SP1",
    (14, 1): "Exchange2010_SP1",
    (14, 3): "Exchange2010_SP2",
    (15, 0): "Exchange2013_SP1",
}
# What came with Exchange 2013, of that which a request may ask for.
_NEW_IN_2013 = frozenset(
    {"item:Preview", "item:TextBody", "item:IconIndex", "item:Flag", "item:InstanceKey"}
)


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """What `ServerVersionInfo` says of the server; the default is Exchange 2019."""

    major: int = 15
    minor: int = 2
    build: int = 1544
    revision: int = 4
    schema: str = "V2017_07_11"

    @property
    def is_2010(self) -> bool:
        """Exchange 2010 or older, which tells less about senders in FindItem."""
        return self.major < 15

    def check(self, request: Request) -> None:
        """Refuse what this version doesn't know, or the request's schema. Raises `EwsError`."""
        asked = _SCHEMAS.index(request.version)
        last = _LAST_SCHEMA.get((self.major, self.minor), _SCHEMAS[-1])
        if asked > _SCHEMAS.index(last):
            raise EwsError("ErrorInvalidServerVersion")
        fields = {field.get("FieldURI", "") for field in request.body.iter(f"{{{TYPES}}}FieldURI")}
        if fields & _NEW_IN_2013 and asked < _SCHEMAS.index("Exchange2013"):
            raise EwsError(
                "ErrorSchemaValidation" if self.is_2010 else "ErrorIncorrectSchemaVersion"
            )


# What a lab can be, by the name of its option.
EXCHANGES = {
    "2010SP3": ServerVersion(14, 3, 513, 0, "Exchange2010_SP2"),
    "2013SP1": ServerVersion(15, 0, 847, 32, "V2_8"),
    "2016": ServerVersion(15, 1, 2507, 6, "V2017_07_11"),
    "2019": ServerVersion(15, 2, 1544, 4, "V2017_07_11"),
    "SE": ServerVersion(15, 2, 2562, 17, "V2017_07_11"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One operation as a client asked for it."""

    operation: str
    body: Element = field(repr=False)
    version: str
    impersonates: bool


def parse(data: bytes) -> Element:
    """XML from outside: no DTD, no entities, no network. Raises `NotSoap`."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise NotSoap from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise NotSoap
    return root


def body_of(root: Element) -> Element:
    """The element inside `soap:Body`. Raises `NotSoap`."""
    body = root.find(f"{{{SOAP}}}Body")
    if root.tag != f"{{{SOAP}}}Envelope" or body is None:
        raise NotSoap
    content = next(body.iterchildren(etree.Element), None)
    if content is None:
        raise NotSoap
    return content


def read_request(data: bytes) -> Request:
    """Raises `NotSoap`, or `EwsError` for a schema version no Exchange ever had."""
    root = parse(data)
    body = body_of(root)
    name = etree.QName(body)
    if name.namespace != MESSAGES:
        raise NotSoap
    header = root.find(f"{{{SOAP}}}Header")
    version, impersonates = "", False
    if header is not None:
        asked = header.find(f"{{{TYPES}}}RequestServerVersion")
        version = "" if asked is None else asked.get("Version", "")
        impersonates = header.find(f"{{{TYPES}}}ExchangeImpersonation") is not None
    if version and version not in _SCHEMAS:
        raise EwsError("ErrorInvalidServerVersion")
    return Request(name.localname, body, version or "Exchange2007", impersonates)


def m(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    """Adds an element of the messages namespace."""
    return _add(parent, f"{{{MESSAGES}}}{name}", text, attributes)


def t(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    """Adds an element of the types namespace."""
    return _add(parent, f"{{{TYPES}}}{name}", text, attributes)


def _add(parent: Element, tag: str, text: str | None, attributes: dict[str, str]) -> Element:
    element = etree.SubElement(parent, tag, attributes)
    element.text = text
    return element


def boolean(value: bool) -> str:
    """xs:boolean."""
    return "true" if value else "false"


def timestamp(moment: datetime) -> str:
    """xs:dateTime in UTC, whole seconds as Exchange writes them."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def success(operation: str) -> Element:
    """An empty response message that says NoError."""
    message = _message(operation, "Success")
    m(message, "ResponseCode", "NoError")
    return message


def failure(operation: str, error: EwsError) -> Element:
    """A response message that tells of an error."""
    message = _message(operation, "Error")
    describe(message, error)
    if operation in _CONTAINERS:
        m(message, _CONTAINERS[operation])
    return message


def describe(message: Element, error: EwsError) -> None:
    """Adds what all erring messages hold: text, code, link key, values."""
    m(message, "MessageText", error.text)
    m(message, "ResponseCode", error.code)
    m(message, "DescriptiveLinkKey", "0")
    if error.values:
        values = m(message, "MessageXml")
        for name, value in error.values.items():
            t(values, "Value", value, Name=name)


def _message(operation: str, response_class: str) -> Element:
    tag = f"{{{MESSAGES}}}{operation}ResponseMessage"
    return etree.Element(tag, {"ResponseClass": response_class}, nsmap=_NAMESPACES)


def answer(operation: str, messages: Iterable[Element], server: ServerVersion) -> bytes:
    """The whole envelope of an answer."""
    envelope, body = _envelope(server)
    response = m(body, f"{operation}Response")
    m(response, "ResponseMessages").extend(messages)
    return serialize(envelope)


def fault(error: EwsError, server: ServerVersion) -> bytes:
    """The whole envelope of a SOAP fault; `MessageXml` stands in the types namespace here."""
    envelope, body = _envelope(server)
    element = etree.SubElement(body, f"{{{SOAP}}}Fault")
    code = etree.SubElement(element, "faultcode", nsmap={"a": TYPES})
    code.text = f"a:{error.code}"
    etree.SubElement(element, "faultstring").text = error.text
    detail = etree.SubElement(element, "detail")
    for name, text in (("ResponseCode", error.code), ("Message", error.text)):
        etree.SubElement(detail, f"{{{ERRORS}}}{name}", nsmap={"e": ERRORS}).text = text
    if error.values:
        values = t(detail, "MessageXml")
        for name, value in error.values.items():
            t(values, "Value", value, Name=name)
    return serialize(envelope)


def _envelope(server: ServerVersion) -> tuple[Element, Element]:
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"s": SOAP, **_NAMESPACES})
    header = etree.SubElement(envelope, f"{{{SOAP}}}Header")
    info = etree.SubElement(header, f"{{{TYPES}}}ServerVersionInfo", nsmap={"h": TYPES})
    info.set("MajorVersion", str(server.major))
    info.set("MinorVersion", str(server.minor))
    info.set("MajorBuildNumber", str(server.build))
    info.set("MinorBuildNumber", str(server.revision))
    info.set("Version", server.schema)
    return envelope, etree.SubElement(envelope, f"{{{SOAP}}}Body")


def serialize(envelope: Element) -> bytes:
    """UTF-8 with an XML declaration."""
    return etree.tostring(envelope, xml_declaration=True, encoding="utf-8")
