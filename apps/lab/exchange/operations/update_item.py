"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/updateitem-operation"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lxml import etree

from ..errors import EwsError
from ..model import Draft
from ..shapes import write_item_id
from ..soap import TYPES, Element, m, success, t
from .call import Call
from .drafts import read_property

# What is left of a property when DeleteItemField removed it.
_CLEARED: dict[str, dict[str, Any]] = {
    "item:Subject": {"subject": ""},
    "item:Body": {"body": ""},
    "item:Categories": {"categories": ()},
    "message:ToRecipients": {"to": ()},
    "message:CcRecipients": {"cc": ()},
    "message:BccRecipients": {"bcc": ()},
}
_SETTABLE = _CLEARED.keys() | {"message:IsRead", "item:Importance", "item:Sensitivity"}


def update_item(call: Call) -> list[Element]:
    """Applies each change; a stale change key is refused only under NeverOverwrite."""
    strict = call.body.get("ConflictResolution") == "NeverOverwrite"

    def one(change: Element) -> Element:
        item_id = change.find(f"{{{TYPES}}}ItemId")
        updates = change.find(f"{{{TYPES}}}Updates")
        if item_id is None or updates is None:
            raise EwsError("ErrorInvalidOperation")
        item = call.writable_item(item_id)
        if strict and item_id.get("ChangeKey") != item.change_key:
            raise EwsError("ErrorIrresolvableConflict")
        draft = item.content
        for update in updates.iterchildren(etree.Element):
            draft = _apply(draft, update)
        call.store.change(item, draft)
        message = success("UpdateItem")
        write_item_id(m(message, "Items"), item)
        t(m(message, "ConflictResults"), "Count", "0")
        return message

    return call.each(call.all_of("ItemChanges"), one)


def _apply(draft: Draft, update: Element) -> Draft:
    path = update.find(f"{{{TYPES}}}FieldURI")
    uri = "" if path is None else path.get("FieldURI", "")
    action = etree.QName(update).localname
    if action == "DeleteItemField" and uri in _CLEARED:
        return replace(draft, **_CLEARED[uri])
    if action != "SetItemField" or uri not in _SETTABLE:
        raise EwsError("ErrorInvalidPropertySet")
    for value in update.iterfind(f"{{{TYPES}}}*/*"):
        draft = read_property(draft, value)
    return draft
