"""Reads a message as a client wrote it, for CreateItem and UpdateItem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lxml import etree

from ..errors import EwsError
from ..model import Address, Draft
from ..soap import TYPES, Element
from .call import Call


def read_draft(call: Call, element: Element) -> Draft:
    """The content of a `t:Message` to be created by the caller. Raises `EwsError`."""
    if etree.QName(element).localname != "Message":
        raise EwsError("ErrorInvalidItemForOperationCreateItem")
    owner = call.store.own_address(call.caller)
    draft = Draft(sender=owner, author=owner, is_read=True)
    for child in element.iterchildren(etree.Element):
        draft = read_property(draft, child)
    return replace(draft, author=_author(call, element))


def read_property(draft: Draft, element: Element) -> Draft:
    """The draft with one property as the element says; what the store doesn't keep is dropped."""
    read = _PROPERTIES.get(etree.QName(element).localname)
    return draft if read is None else replace(draft, **read(element))


def _people(element: Element) -> tuple[Address, ...]:
    people = []
    for mailbox in element.iterfind(f"{{{TYPES}}}Mailbox"):
        address = mailbox.findtext(f"{{{TYPES}}}EmailAddress", "")
        if "@" not in address:
            raise EwsError("ErrorInvalidRecipients")
        people.append(Address(mailbox.findtext(f"{{{TYPES}}}Name") or address, address))
    return tuple(people)


def _author(call: Call, element: Element) -> Address:
    """Who the mail is from: the caller, or one whose whole mailbox is theirs too."""
    asked = element.findtext(f"{{{TYPES}}}From/{{{TYPES}}}Mailbox/{{{TYPES}}}EmailAddress")
    if asked is None:
        return call.store.own_address(call.caller)
    owner = call.store.local(asked)
    if owner is None or not owner.owned_by(call.caller):
        raise EwsError("ErrorSendAsDenied")
    return call.store.own_address(owner)


def _body(element: Element) -> dict[str, Any]:
    html = element.get("BodyType") == "HTML"
    return {"body": element.text or "", "body_type": "HTML" if html else "Text"}


def _categories(element: Element) -> dict[str, Any]:
    strings = element.iterfind(f"{{{TYPES}}}String")
    return {"categories": tuple(string.text or "" for string in strings)}


_PROPERTIES: dict[str, Callable[[Element], dict[str, Any]]] = {
    "Subject": lambda e: {"subject": e.text or ""},
    "Importance": lambda e: {"importance": e.text or "Normal"},
    "Sensitivity": lambda e: {"sensitivity": e.text or "Normal"},
    "IsRead": lambda e: {"is_read": e.text in ("true", "1")},
    "ToRecipients": lambda e: {"to": _people(e)},
    "CcRecipients": lambda e: {"cc": _people(e)},
    "BccRecipients": lambda e: {"bcc": _people(e)},
    "Body": _body,
    "Categories": _categories,
}
