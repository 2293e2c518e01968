"""Properties of items and folders: what they are called, how they are written, in schema order.

A request's shape (`IdOnly`, `Default`, `AllProperties` and additional FieldURIs) picks among them:
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/property-sets-and-response-shapes-in-ews-in-exchange
A property the store doesn't keep is left out of the answer, as Exchange leaves out empty ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from . import ids
from .model import Address, Folder, Item, Kind, Mailbox
from .soap import MESSAGES, TYPES, Element, boolean, t, timestamp

ITEM_CLASSES: dict[Kind, str] = {
    "Message": "IPM.Note",
    "MeetingRequest": "IPM.Schedule.Meeting.Request",
    "MeetingResponse": "IPM.Schedule.Meeting.Resp.Pos",
    "MeetingCancellation": "IPM.Schedule.Meeting.Canceled",
}
# Answers and forwarded mail belong to the conversation that they are about.
_REPLIES = re.compile(r"^(?:(?:re|aw|fw|fwd|wg): *)+", re.IGNORECASE)
_REQUEST: frozenset[Kind] = frozenset({"MeetingRequest"})
_MEETING: frozenset[Kind] = frozenset({"MeetingRequest", "MeetingResponse", "MeetingCancellation"})


@dataclass(frozen=True, slots=True)
class Look:
    """Who looks and how: FindItem can't show bodies and recipients, GetItem can."""

    caller: Mailbox
    full: bool = True
    sender_addresses: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """What a request asked to see."""

    base: str
    fields: frozenset[str]

    def wants(self, uri: str, default: bool) -> bool:
        """Whether a property is to be shown."""
        return (
            self.base == "AllProperties" or (self.base == "Default" and default)
        ) or uri in self.fields


def read_shape(request: Element, name: str) -> Shape:
    """From `ItemShape` or `FolderShape` of a request."""
    shape = request.find(f"{{{MESSAGES}}}{name}")
    if shape is None:
        return Shape("IdOnly", frozenset())
    uris = (field.get("FieldURI") for field in shape.iter(f"{{{TYPES}}}FieldURI"))
    base = shape.findtext(f"{{{TYPES}}}BaseShape", "IdOnly")
    return Shape(base, frozenset(uri for uri in uris if uri))


Writer = Callable[[Element, str, Item, Look], None]


@dataclass(frozen=True, slots=True)
class Property:
    """One property: element name, the URI that asks for it, whether `Default` shows it."""

    name: str
    uri: str
    write: Writer
    default: bool = False
    kinds: Collection[Kind] | None = None
    found: bool = True


def _text(read: Callable[[Item], str | None]) -> Writer:
    def write(parent: Element, name: str, item: Item, _: Look) -> None:
        value = read(item)
        if value is not None:
            t(parent, name, value)

    return write


def _flag(read: Callable[[Item], bool]) -> Writer:
    return _text(lambda item: boolean(read(item)))


def _moment(read: Callable[[Item], datetime | None]) -> Writer:
    def text(item: Item) -> str | None:
        moment = read(item)
        return None if moment is None else timestamp(moment)

    return _text(text)


def mailbox_element(parent: Element, person: Address, with_address: bool = True) -> None:
    """Adds a `t:Mailbox`."""
    mailbox = t(parent, "Mailbox")
    t(mailbox, "Name", person.name or person.address)
    if with_address and person.address:
        t(mailbox, "EmailAddress", person.address)
        t(mailbox, "RoutingType", "SMTP")
        t(mailbox, "MailboxType", "Mailbox")


def _person(read: Callable[[Item], Address | None]) -> Writer:
    def write(parent: Element, name: str, item: Item, look: Look) -> None:
        person = read(item)
        if person is not None:
            mailbox_element(t(parent, name), person, look.full or look.sender_addresses)

    return write


def _people(read: Callable[[Item], tuple[Address, ...]]) -> Writer:
    def write(parent: Element, name: str, item: Item, _: Look) -> None:
        people = read(item)
        if people:
            holder = t(parent, name)
            for person in people:
                mailbox_element(holder, person)

    return write


def _write_id(parent: Element, name: str, item: Item, _: Look) -> None:
    t(parent, name, Id=item.id, ChangeKey=item.change_key)


def _write_conversation(parent: Element, name: str, item: Item, _: Look) -> None:
    topic = _REPLIES.sub("", item.content.subject)
    t(parent, name, Id=ids.conversation_id(item.folder.mailbox.guid, topic))


def _write_parent(parent: Element, name: str, item: Item, _: Look) -> None:
    t(parent, name, Id=item.folder.id, ChangeKey=item.folder.change_key)


def _write_body(parent: Element, name: str, item: Item, _: Look) -> None:
    t(parent, name, item.content.body, BodyType=item.content.body_type)


def _write_text_body(parent: Element, name: str, item: Item, _: Look) -> None:
    t(parent, name, item.content.body, BodyType="Text")


def _write_categories(parent: Element, name: str, item: Item, _: Look) -> None:
    if item.content.categories:
        holder = t(parent, name)
        for category in item.content.categories:
            t(holder, "String", category)


def _write_rights(parent: Element, name: str, item: Item, look: Look) -> None:
    write_rights(parent, name, writable=item.folder.mailbox.owned_by(look.caller))


def write_rights(parent: Element, name: str, *, writable: bool) -> None:
    """Adds an `EffectiveRights` for one who may read, and write or not."""
    rights = t(parent, name)
    for right in ("CreateAssociated", "CreateContents", "CreateHierarchy", "Delete", "Modify"):
        t(rights, right, boolean(writable))
    t(rights, "Read", "true")


def _ends_at(item: Item) -> datetime | None:
    start = item.content.starts_at
    return None if start is None else start + item.content.duration


def _names(people: tuple[Address, ...]) -> str:
    return "; ".join(person.name or person.address for person in people)


# In the order of the schema: ItemType, MessageType, MeetingMessageType, then each kind's own.
ITEM_PROPERTIES: tuple[Property, ...] = (
    Property("ItemId", "item:ItemId", _write_id, default=True),
    Property("ParentFolderId", "item:ParentFolderId", _write_parent),
    Property("ItemClass", "item:ItemClass", _text(lambda i: ITEM_CLASSES[i.content.kind])),
    Property("Subject", "item:Subject", _text(lambda i: i.content.subject), default=True),
    Property(
        "Sensitivity", "item:Sensitivity", _text(lambda i: i.content.sensitivity), default=True
    ),
    Property("Body", "item:Body", _write_body, default=True, found=False),
    Property("DateTimeReceived", "item:DateTimeReceived", _moment(lambda i: i.received_at)),
    Property("Size", "item:Size", _text(lambda i: str(i.size)), default=True),
    Property("Categories", "item:Categories", _write_categories),
    Property("Importance", "item:Importance", _text(lambda i: i.content.importance)),
    Property("IsSubmitted", "item:IsSubmitted", _flag(lambda _: False)),
    Property("IsDraft", "item:IsDraft", _flag(lambda i: i.content.is_draft)),
    Property(
        "IsFromMe",
        "item:IsFromMe",
        _flag(
            lambda i: (
                i.content.author is not None
                and i.content.author.address.lower() == i.folder.mailbox.address.lower()
            )
        ),
    ),
    Property("IsResend", "item:IsResend", _flag(lambda _: False)),
    Property("IsUnmodified", "item:IsUnmodified", _flag(lambda i: i.version == 1)),
    Property(
        "DateTimeSent",
        "item:DateTimeSent",
        _moment(lambda i: i.content.sent_at or i.created_at),
        default=True,
    ),
    Property(
        "DateTimeCreated", "item:DateTimeCreated", _moment(lambda i: i.created_at), default=True
    ),
    Property("ReminderIsSet", "item:ReminderIsSet", _flag(lambda _: False)),
    Property("DisplayCc", "item:DisplayCc", _text(lambda i: _names(i.content.cc))),
    Property("DisplayTo", "item:DisplayTo", _text(lambda i: _names(i.content.to))),
    Property("HasAttachments", "item:HasAttachments", _flag(lambda _: False), default=True),
    Property("Culture", "item:Culture", _text(lambda _: "en-US")),
    Property("EffectiveRights", "item:EffectiveRights", _write_rights),
    Property("LastModifiedName", "item:LastModifiedName", _text(lambda i: i.folder.mailbox.name)),
    Property("LastModifiedTime", "item:LastModifiedTime", _moment(lambda i: i.modified_at)),
    Property("IsAssociated", "item:IsAssociated", _flag(lambda _: False), default=True),
    Property("ConversationId", "item:ConversationId", _write_conversation),
    Property("Preview", "item:Preview", _text(lambda i: i.content.body[:255])),
    Property("TextBody", "item:TextBody", _write_text_body, found=False),
    Property("Sender", "message:Sender", _person(lambda i: i.content.sender)),
    Property(
        "ToRecipients",
        "message:ToRecipients",
        _people(lambda i: i.content.to),
        default=True,
        found=False,
    ),
    Property(
        "CcRecipients",
        "message:CcRecipients",
        _people(lambda i: i.content.cc),
        default=True,
        found=False,
    ),
    Property(
        "BccRecipients",
        "message:BccRecipients",
        _people(lambda i: i.content.bcc),
        default=True,
        found=False,
    ),
    Property(
        "IsReadReceiptRequested",
        "message:IsReadReceiptRequested",
        _flag(lambda _: False),
        default=True,
    ),
    Property(
        "IsDeliveryReceiptRequested",
        "message:IsDeliveryReceiptRequested",
        _flag(lambda _: False),
        default=True,
    ),
    Property("ConversationTopic", "message:ConversationTopic", _text(lambda i: i.content.subject)),
    Property("From", "message:From", _person(lambda i: i.content.author), default=True),
    Property(
        "InternetMessageId",
        "message:InternetMessageId",
        _text(lambda i: i.content.internet_message_id),
        default=True,
    ),
    Property("IsRead", "message:IsRead", _flag(lambda i: i.content.is_read), default=True),
    Property(
        "IsResponseRequested",
        "message:IsResponseRequested",
        _flag(lambda i: i.content.kind == "MeetingRequest"),
    ),
    Property("IsDelegated", "meeting:IsDelegated", _flag(lambda _: False), kinds=_MEETING),
    Property("IsOutOfDate", "meeting:IsOutOfDate", _flag(lambda _: False), kinds=_MEETING),
    Property(
        "HasBeenProcessed", "meeting:HasBeenProcessed", _flag(lambda _: False), kinds=_MEETING
    ),
    Property(
        "ResponseType",
        "meeting:ResponseType",
        _text(lambda i: "Accept" if i.content.kind == "MeetingResponse" else "NoResponseReceived"),
        kinds=_MEETING,
    ),
    Property(
        "MeetingRequestType",
        "meetingRequest:MeetingRequestType",
        _text(lambda _: "NewMeetingRequest"),
        kinds=_REQUEST,
    ),
    Property(
        "IntendedFreeBusyStatus",
        "meetingRequest:IntendedFreeBusyStatus",
        _text(lambda _: "Busy"),
        kinds=_REQUEST,
    ),
    Property("Start", "calendar:Start", _moment(lambda i: i.content.starts_at), kinds=_MEETING),
    Property("End", "calendar:End", _moment(_ends_at), kinds=_MEETING),
    Property("Location", "calendar:Location", _text(lambda i: i.content.location), kinds=_MEETING),
    Property(
        "Organizer",
        "calendar:Organizer",
        _person(lambda i: i.content.author),
        kinds=_REQUEST,
    ),
)


def write_item(parent: Element, item: Item, shape: Shape, look: Look) -> None:
    """Adds the item as its kind's element."""
    element = t(parent, item.content.kind)
    for prop in ITEM_PROPERTIES:
        if prop.kinds is not None and item.content.kind not in prop.kinds:
            continue
        if not look.full and not prop.found:
            continue
        if prop.name == "ItemId" or shape.wants(prop.uri, prop.default):
            prop.write(element, prop.name, item, look)


def write_item_id(parent: Element, item: Item) -> None:
    """Adds the item as its kind's element with nothing but its id."""
    t(t(parent, item.content.kind), "ItemId", Id=item.id, ChangeKey=item.change_key)


def write_folder(parent: Element, folder: Folder, shape: Shape, caller: Mailbox) -> None:
    """Adds the folder as its class' element."""
    element = t(parent, folder.element)
    t(element, "FolderId", Id=folder.id, ChangeKey=folder.change_key)
    if folder.parent is not None and shape.wants("folder:ParentFolderId", False):
        t(
            element,
            "ParentFolderId",
            Id=folder.parent.id,
            ChangeKey=folder.parent.change_key,
        )
    if folder.folder_class and shape.wants("folder:FolderClass", False):
        t(element, "FolderClass", folder.folder_class)
    if shape.wants("folder:DisplayName", True):
        t(element, "DisplayName", folder.display_name)
    if shape.wants("folder:TotalCount", True):
        t(element, "TotalCount", str(len(folder.items)))
    if shape.wants("folder:ChildFolderCount", True):
        t(element, "ChildFolderCount", str(len(children(folder))))
    if shape.wants("folder:EffectiveRights", False):
        write_rights(element, "EffectiveRights", writable=folder.mailbox.owned_by(caller))
    if shape.wants("folder:DistinguishedFolderId", False):
        t(element, "DistinguishedFolderId", folder.name)
    if folder.element in ("Folder", "TasksFolder") and shape.wants("folder:UnreadCount", True):
        t(element, "UnreadCount", str(folder.unread))


def children(folder: Folder) -> list[Folder]:
    """The folders right below this one."""
    return [other for other in folder.mailbox.folders().values() if other.parent is folder]
