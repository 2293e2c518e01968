"""GetItem: https://learn.microsoft.com/exchange/client-developer/web-service-reference/getitem-operation"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Literal

from lxml import etree

from apps.exchange.errors import ItemNotFound, NotEws
from apps.exchange.ews import soap
from apps.exchange.interface import Item, ItemKind

_FIELDS = (
    "item:ParentFolderId",
    "item:ItemClass",
    "item:Subject",
    "item:DateTimeReceived",
    "message:Sender",
    "message:From",
    "message:IsRead",
)
# Of a body of which only the beginning is wanted.
_PREVIEW_CHARACTERS = 2000
Previews = Literal["none", "property", "body"]
_KINDS: dict[str, ItemKind] = {
    "Message": "message",
    "MeetingRequest": "meeting_request",
    "MeetingResponse": "meeting_response",
    "MeetingCancellation": "meeting_cancellation",
}
# A meeting message that couldn't be matched with its meeting comes as a plain MeetingMessage or
# Message; its class (https://learn.microsoft.com/office/vba/outlook/concepts/forms/item-types-and-message-classes)
# still says what it is.
_CLASSES: tuple[tuple[str, ItemKind], ...] = (
    ("ipm.schedule.meeting.request", "meeting_request"),
    ("ipm.schedule.meeting.resp", "meeting_response"),
    ("ipm.schedule.meeting.canceled", "meeting_cancellation"),
)


def request(
    item_ids: Sequence[str], previews: Previews = "none", *, conversations: bool = False
) -> bytes:
    """Ask for the few properties of these items that an announcement needs.

    Exchange 2013 and later keep a preview of 255 characters (`property`); of older ones only the
    whole body can be had, as text (`body`).
    """
    ids = "".join(f"<t:ItemId Id={soap.attribute(item_id)}/>" for item_id in item_ids)
    version = soap.WITH_PREVIEWS if previews == "property" else soap.OLDEST
    shape = _shape(previews, conversations)
    return soap.envelope(f"<m:GetItem>{shape}<m:ItemIds>{ids}</m:ItemIds></m:GetItem>", version)


@cache
def _shape(previews: Previews, conversations: bool) -> str:
    fields = list(_FIELDS)
    fields += {"none": [], "property": ["item:Preview"], "body": ["item:Body"]}[previews]
    fields += ["item:ConversationId"] if conversations else []
    body_type = "<t:BodyType>Text</t:BodyType>" if previews == "body" else ""
    return (
        f"<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>{body_type}<t:AdditionalProperties>"
        + "".join(f'<t:FieldURI FieldURI="{field}"/>' for field in fields)
        + "</t:AdditionalProperties></m:ItemShape>"
    )


def parse(raw: bytes, item_ids: Sequence[str]) -> dict[str, Item]:
    """The items by the ids that `request` named, in its order, without those that are gone.

    Raises:
        ExchangeError: any other refusal, be it of one item only; not an answer to GetItem.
    """
    messages = soap.response_messages(raw, "GetItem")
    if len(messages) != len(item_ids):
        raise NotEws
    items: dict[str, Item] = {}
    for item_id, message in zip(item_ids, messages, strict=True):
        try:
            items[item_id] = _item(soap.checked(message))
        except ItemNotFound:
            continue
    return items


def _item(message: etree._Element) -> Item:
    items = message.find(f"{soap.MESSAGES}Items")
    if items is None or len(items) != 1:
        raise NotEws
    element = items[0]
    name, address = _sender(element)
    parent = element.find(f"{soap.TYPES}ParentFolderId")
    conversation = element.find(f"{soap.TYPES}ConversationId")
    preview = element.findtext(f"{soap.TYPES}Preview") or element.findtext(f"{soap.TYPES}Body")
    return Item(
        item_id=soap.required(element.find(f"{soap.TYPES}ItemId"), "Id"),
        kind=_kind(element),
        sender_name=name,
        sender_address=address,
        subject=element.findtext(f"{soap.TYPES}Subject", ""),
        received_at=_time(element.findtext(f"{soap.TYPES}DateTimeReceived", "")),
        is_read=element.findtext(f"{soap.TYPES}IsRead", "").strip() in ("true", "1"),
        parent_folder_id=parent.get("Id", "") if parent is not None else "",
        preview=(preview or "")[:_PREVIEW_CHARACTERS],
        conversation_id=conversation.get("Id", "") if conversation is not None else "",
    )


def _kind(element: etree._Element) -> ItemKind:
    item_class = element.findtext(f"{soap.TYPES}ItemClass", "").lower()
    for prefix, kind in _CLASSES:
        if item_class.startswith(prefix):
            return kind
    return _KINDS.get(etree.QName(element).localname, "other")


def _sender(element: etree._Element) -> tuple[str, str]:
    """Name and SMTP address of the one on whose behalf it was sent, else of who sent it."""
    for role in ("From", "Sender"):
        mailbox = element.find(f"{soap.TYPES}{role}/{soap.TYPES}Mailbox")
        if mailbox is None:
            continue
        address = mailbox.findtext(f"{soap.TYPES}EmailAddress", "")
        # A deleted colleague has an X.500 name ("/O=…") where others have an address.
        address = address if "@" in address else ""
        name = mailbox.findtext(f"{soap.TYPES}Name", "") or address
        if name:
            return name, address
    return "", ""


def _time(value: str) -> datetime | None:
    try:
        return soap.time(value)
    except ValueError:
        return None
