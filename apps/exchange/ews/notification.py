"""SendNotification: what Exchange posts to the webhook, and what it is answered.

https://learn.microsoft.com/exchange/client-developer/web-service-reference/sendnotification
Anybody on the internet may post here, so nothing is believed: no DOCTYPE, no entities, one
encoding, a size cap, and either the whole of a notification or nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from lxml import etree

from apps.exchange.ews import soap

MAX_BYTES = 256 * 1024

EventKind = Literal[
    "NewMail", "Created", "Deleted", "Modified", "Moved", "Copied", "Status", "FreeBusyChanged"
]
_KINDS: dict[str, EventKind] = {f"{soap.TYPES}{kind}Event": kind for kind in get_args(EventKind)}
_SUBSCRIPTION_ID = f"{soap.MESSAGES}Notification/{soap.TYPES}SubscriptionId"
_CODE = re.compile(r"[A-Za-z]{1,80}")
_RESULT = (
    '<?xml version="1.0" encoding="utf-8"?>'
    f'<s:Envelope xmlns:s="{soap.SOAP[1:-1]}"><s:Body>'
    f'<SendNotificationResult xmlns="{soap.MESSAGES[1:-1]}">'
    "<SubscriptionStatus>%s</SubscriptionStatus>"
    "</SendNotificationResult></s:Body></s:Envelope>"
)
_RESULTS = {status: (_RESULT % status).encode() for status in ("OK", "Unsubscribe")}


class NotANotification(Exception):
    """The body is not a notification of EWS, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. An object event names either an item or a folder.

    `timestamp` is aware (UTC). `unread_count` comes with Modified events of the folder only.
    """

    kind: EventKind
    item_id: str | None = None
    folder_id: str | None = None
    parent_folder_id: str | None = None
    old_item_id: str | None = None
    old_parent_folder_id: str | None = None
    watermark: str | None = None
    timestamp: datetime | None = None
    unread_count: int | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What Exchange says of one subscription.

    With an `error_code` (Exchange's own, such as ErrorReadEventsFailed: the subscription is
    gone) there are no events, and `subscription_id` is empty if Exchange didn't name it.
    """

    subscription_id: str
    previous_watermark: str = ""
    more_events: bool = False
    events: tuple[Event, ...] = field(default=())
    error_code: str | None = None


def notification_result(status: Literal["OK", "Unsubscribe"]) -> bytes:
    """The SOAP answer: `OK` takes the events, `Unsubscribe` ends the subscription."""
    return _RESULTS[status]


def parse_notification(body: bytes) -> Notification:
    """Read the body of a call to the webhook.

    Raises:
        NotANotification: too large, not XML, with a DOCTYPE, or anything but one whole
            SendNotification about one subscription.
    """
    if len(body) > MAX_BYTES:
        raise NotANotification
    try:
        content = soap.body_of(soap.parse(body))
    except soap.XmlRefused:
        raise NotANotification from None
    container = content.find(f"{soap.MESSAGES}ResponseMessages")
    if content.tag != f"{soap.MESSAGES}SendNotification" or container is None:
        raise NotANotification
    if len(container) != 1:
        raise NotANotification
    message = container[0]
    if message.tag != f"{soap.MESSAGES}SendNotificationResponseMessage":
        raise NotANotification
    code = message.findtext(f"{soap.MESSAGES}ResponseCode", "")
    if message.get("ResponseClass") == "Error":
        if not _CODE.fullmatch(code):
            raise NotANotification
        named = soap.message_value(message, "SubscriptionId")
        named = named or message.findtext(_SUBSCRIPTION_ID, "")
        return Notification(named, error_code=code)
    notification = message.find(f"{soap.MESSAGES}Notification")
    if message.get("ResponseClass") != "Success" or notification is None:
        raise NotANotification
    return _notification(notification)


def _notification(element: etree._Element) -> Notification:
    subscription_id = element.findtext(f"{soap.TYPES}SubscriptionId")
    events = tuple(_event(_KINDS[child.tag], child) for child in element if child.tag in _KINDS)
    if not subscription_id or not events:
        raise NotANotification
    return Notification(
        subscription_id=subscription_id,
        previous_watermark=element.findtext(f"{soap.TYPES}PreviousWatermark", ""),
        more_events=element.findtext(f"{soap.TYPES}MoreEvents", "").strip() in ("true", "1"),
        events=events,
    )


def _event(kind: EventKind, element: etree._Element) -> Event:
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for child in element:
        name = str(child.tag).removeprefix(soap.TYPES)
        if value := child.get("Id"):
            ids[name] = value
        elif child.text:
            texts[name] = child.text
    if kind != "Status" and not ("ItemId" in ids or "FolderId" in ids):
        raise NotANotification
    return Event(
        kind=kind,
        item_id=ids.get("ItemId"),
        folder_id=ids.get("FolderId"),
        parent_folder_id=ids.get("ParentFolderId"),
        old_item_id=ids.get("OldItemId"),
        old_parent_folder_id=ids.get("OldParentFolderId"),
        watermark=texts.get("Watermark"),
        timestamp=_time(texts.get("TimeStamp")),
        unread_count=_count(texts.get("UnreadCount")),
    )


def _time(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return soap.time(value)
    except ValueError:
        raise NotANotification from None


def _count(value: str | None) -> int | None:
    if value is None:
        return None
    value = value.strip()
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise NotANotification
    return int(value)
