"""The SOAP messages of push delivery: what goes to a webhook, and what it may reply.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/sendnotification
and [MS-OXWSPSNTIF]. Real servers use the prefix `soap11` and declare `m` and `t` anew in header
and body; so does this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from .errors import EwsError, NotSoap
from .model import Folder
from .soap import (
    MESSAGES,
    SOAP,
    TYPES,
    Element,
    body_of,
    boolean,
    describe,
    m,
    parse,
    serialize,
    t,
    timestamp,
)
from .store import Event

_NAMESPACES = {"t": TYPES, "m": MESSAGES}


def events_message(
    subscription_id: str,
    previous_watermark: str,
    events: Sequence[Event],
    schema_version: str,
    *,
    more_events: bool,
) -> bytes:
    """A notification of events; none of them makes it a StatusEvent."""
    envelope, message = _message(schema_version, "Success")
    m(message, "ResponseCode", "NoError")
    notification = _notification(message, subscription_id, previous_watermark, more_events)
    for event in events:
        _write_event(notification, event)
    if not events:
        t(t(notification, "StatusEvent"), "Watermark", previous_watermark)
    return serialize(envelope)


def error_message(
    subscription_id: str, previous_watermark: str, code: str, schema_version: str, *, bare: bool
) -> bytes:
    """A notification that the subscription is gone.

    Real servers leave the Notification out and name the subscription in MessageXml only (`bare`),
    which their own schema doesn't allow; else a StatusEvent keeps to the schema.
    """
    envelope, message = _message(schema_version, "Error")
    describe(message, EwsError(code, {"SubscriptionId": subscription_id}))
    if not bare:
        notification = _notification(message, subscription_id, previous_watermark, False)
        t(t(notification, "StatusEvent"), "Watermark", previous_watermark)
    return serialize(envelope)


def read_result(body: bytes) -> str:
    """`OK` or `Unsubscribe` from a SendNotificationResult. Raises `NotSoap` for all else."""
    result = body_of(parse(body))
    status = result.findtext(f"{{{MESSAGES}}}SubscriptionStatus")
    if result.tag != f"{{{MESSAGES}}}SendNotificationResult" or status is None:
        raise NotSoap
    if status not in ("OK", "Unsubscribe"):
        raise NotSoap
    return status


def _message(schema_version: str, response_class: str) -> tuple[Element, Element]:
    envelope = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap11": SOAP})
    header = etree.SubElement(envelope, f"{{{SOAP}}}Header")
    version = etree.SubElement(header, f"{{{TYPES}}}RequestServerVersion", nsmap=_NAMESPACES)
    version.set("Version", schema_version)
    body = etree.SubElement(envelope, f"{{{SOAP}}}Body")
    sent = etree.SubElement(body, f"{{{MESSAGES}}}SendNotification", nsmap=_NAMESPACES)
    messages = m(sent, "ResponseMessages")
    message = m(messages, "SendNotificationResponseMessage", ResponseClass=response_class)
    return envelope, message


def _notification(
    message: Element, subscription_id: str, previous_watermark: str, more_events: bool
) -> Element:
    notification = m(message, "Notification")
    t(notification, "SubscriptionId", subscription_id)
    t(notification, "PreviousWatermark", previous_watermark)
    t(notification, "MoreEvents", boolean(more_events))
    return notification


def _write_event(notification: Element, event: Event) -> None:
    element = t(notification, f"{event.kind}Event")
    t(element, "Watermark", event.watermark)
    t(element, "TimeStamp", timestamp(event.at))
    if event.item_id:
        t(element, "ItemId", Id=event.item_id, ChangeKey=event.change_key)
        _write_folder_id(element, "ParentFolderId", event.folder)
    else:
        t(element, "FolderId", Id=event.folder.id, ChangeKey=event.change_key)
        _write_folder_id(element, "ParentFolderId", event.folder.parent or event.folder)
    if event.old_folder is not None:
        t(element, "OldItemId", Id=event.old_item_id, ChangeKey=event.change_key)
        _write_folder_id(element, "OldParentFolderId", event.old_folder)
    if event.unread_count is not None:
        t(element, "UnreadCount", str(event.unread_count))


def _write_folder_id(parent: Element, name: str, folder: Folder) -> None:
    t(parent, name, Id=folder.id, ChangeKey=folder.change_key)
