"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/convertid-operation"""

from __future__ import annotations

from .. import ids
from ..errors import EwsError
from ..soap import XSI, Element, m, success
from .call import Call


def convert_id(call: Call) -> list[Element]:
    """Each id in the destination format."""
    destination = call.body.get("DestinationFormat", "EwsId")

    def one(source: Element) -> Element:
        mailbox = call.store.local(source.get("Mailbox", ""))
        if mailbox is None:
            # Exchange looks at the id first, so that a nonsense id is what it complains of.
            raise EwsError("ErrorInvalidIdMalformed")
        value = ids.convert(
            source.get("Id", ""), source.get("Format", ""), destination, mailbox.guid
        )
        message = success("ConvertId")
        converted = m(
            message,
            "AlternateId",
            Format=destination,
            Id=value,
            Mailbox=source.get("Mailbox", ""),
        )
        converted.set(f"{{{XSI}}}type", "t:AlternateIdType")
        return message

    return call.each(call.all_of("SourceIds"), one)
