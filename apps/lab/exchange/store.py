"""The store: finds mailboxes, folders and items, changes them, and says which events that makes.

What a change makes Exchange tell its subscribers:
https://learn.microsoft.com/exchange/client-developer/exchange-web-services/notification-subscriptions-mailbox-events-and-ews-in-exchange
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from . import ids
from .clock import Clock
from .errors import EwsError
from .model import Address, Draft, Folder, Item, Mailbox

EventKind = Literal["NewMail", "Created", "Modified", "Moved", "Deleted"]

# Characters that XML 1.0 can't carry, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an item, or to a folder when `item_id` is empty."""

    kind: EventKind
    counter: int
    at: datetime
    folder: Folder = field(repr=False)
    item_id: str = ""
    change_key: str = ""
    unread_count: int | None = None
    old_item_id: str = ""
    old_folder: Folder | None = field(default=None, repr=False)

    @property
    def watermark(self) -> str:
        """The event's place among all events of its mailbox."""
        return ids.watermark(self.folder.mailbox.guid, self.counter)


class Store:
    """All mailboxes of the server. `publish` is told the events of each change, in order."""

    def __init__(self, clock: Clock, publish: Callable[[Sequence[Event]], None]) -> None:
        self._clock = clock
        self._publish = publish
        self._by_address: dict[str, Mailbox] = {}
        self._by_login: dict[str, Mailbox] = {}
        self._folders: dict[str, Folder] = {}
        self._items: dict[str, Item] = {}

    def add(self, mailbox: Mailbox) -> None:
        """Raises ValueError when an address or login is taken."""
        addresses = [address.lower() for address in (mailbox.address, *mailbox.aliases)]
        logins = {
            f"{mailbox.domain}\\{mailbox.username}".lower(),
            f"{mailbox.username}@{mailbox.domain}".lower(),
            mailbox.address.lower(),
        }
        if self._by_address.keys() & set(addresses) or self._by_login.keys() & logins:
            raise ValueError("that address or login is taken")
        self._by_address.update(dict.fromkeys(addresses, mailbox))
        self._by_login.update(dict.fromkeys(logins, mailbox))

    def mailboxes(self) -> Iterator[Mailbox]:
        """Each mailbox once, in the order they were added."""
        return iter(dict.fromkeys(self._by_address.values()))

    def by_login(self, login: str) -> Mailbox | None:
        """By `DOMAIN\\user`, `user@domain` or the primary address, in any case."""
        return self._by_login.get(login.lower())

    def mailbox(self, address: str) -> Mailbox:
        """By primary address or alias. Raises `EwsError` ErrorNonExistentMailbox."""
        found = self._by_address.get(address.strip().lower())
        if found is None:
            raise EwsError("ErrorNonExistentMailbox")
        return found

    def rename(self, mailbox: Mailbox, new: str, *, keep_old: bool) -> None:
        """Another primary address; the old one stays as an alias, or is nobody's from now on.

        Raises ValueError when the new one is somebody else's.
        """
        if self._by_address.get(new.lower(), mailbox) is not mailbox:
            raise ValueError("that address is taken")
        old = mailbox.address
        aliases = {alias for alias in mailbox.aliases if alias.lower() != new.lower()}
        mailbox.aliases = tuple(sorted(aliases | ({old} if keep_old else set())))
        mailbox.address = new
        self._by_address[new.lower()] = mailbox
        if not keep_old:
            del self._by_address[old.lower()]
        # What users of old sign in with goes on; the address itself is a name to sign in, too.
        self._by_login[new.lower()] = mailbox

    def primary(self, address: str) -> Mailbox:
        """By primary address only.

        Raises `EwsError` ErrorNonExistentMailbox, or for an alias ErrorNonPrimarySmtpAddress with
        the primary address.
        """
        found = self.mailbox(address)
        if found.address.lower() != address.strip().lower():
            raise EwsError("ErrorNonPrimarySmtpAddress", {"Primary": found.address})
        return found

    def local(self, address: str) -> Mailbox | None:
        """The mailbox that mail to this address reaches, if it is one of ours."""
        return self._by_address.get(address.strip().lower())

    def folder(self, mailbox: Mailbox, name: str) -> Folder:
        """By distinguished name. Raises `EwsError` ErrorFolderNotFound."""
        if not mailbox.is_open:
            self._folders.update({folder.id: folder for folder in mailbox.folders().values()})
        found = mailbox.folders().get(name)
        if found is None:
            raise EwsError("ErrorFolderNotFound")
        return found

    def folder_by_id(self, folder_id: str) -> Folder:
        """Raises `EwsError` ErrorFolderNotFound."""
        found = self._folders.get(folder_id)
        if found is None:
            raise EwsError("ErrorFolderNotFound")
        return found

    def item(self, item_id: str) -> Item:
        """Raises `EwsError` ErrorItemNotFound."""
        found = self._items.get(item_id)
        if found is None:
            raise EwsError("ErrorItemNotFound")
        return found

    def save(
        self, folder: Folder, draft: Draft, *, arrives: bool = False, age_s: float = 0.0
    ) -> Item:
        """Puts a new item into a folder; `arrives` tells mail that came in from one's own.

        With `age_s` it was received so many lab seconds ago.
        """
        now = self._clock.now()
        received = now - timedelta(seconds=age_s)
        item_id = ids.item_id(folder.mailbox.guid, folder.id)
        item = Item(item_id, folder, _printable(draft), received, now, now)
        self._insert(item)
        events = [self._item_event("NewMail", item)] if arrives else []
        events.append(self._item_event("Created", item))
        events.append(self._folder_event(folder))
        self._publish(events)
        return item

    def deliver(
        self, address: str, draft: Draft, folder: str = "inbox", age_s: float = 0.0
    ) -> Item:
        """Mail arrives for a mailbox of ours. Raises `EwsError` ErrorNonExistentMailbox."""
        target = self.folder(self.mailbox(address), folder)
        return self.save(target, draft, arrives=True, age_s=age_s)

    def send(self, draft: Draft) -> None:
        """Delivers to all recipients that live here; others are as good as sent."""
        envelope = {recipient.address.lower() for recipient in (*draft.to, *draft.cc, *draft.bcc)}
        reached = {id(box): box for box in map(self.local, sorted(envelope)) if box is not None}
        for mailbox in reached.values():
            copy = replace(draft, bcc=(), is_read=False, is_draft=False, sent_at=self._clock.now())
            self.deliver(mailbox.address, copy)

    def change(self, item: Item, draft: Draft) -> None:
        """Replaces an item's content; its change key changes."""
        item.folder.unread += item.content.is_read - draft.is_read
        item.content = _printable(draft)
        item.version += 1
        item.modified_at = self._clock.now()
        self._publish([self._item_event("Modified", item), self._folder_event(item.folder)])

    def mark_read(self, item: Item, read: bool) -> None:
        """Sets IsRead; nothing happens where it is so already."""
        if item.content.is_read != read:
            self.change(item, replace(item.content, is_read=read))

    def move(self, item: Item, folder: Folder) -> Item:
        """Moves an item, which gets a new id; the old one is gone.

        To another mailbox it is Deleted there and Created here, as no event spans two mailboxes.
        """
        old_id, old_folder, key = item.id, item.folder, item.change_key
        self._remove(item)
        item.id = ids.item_id(folder.mailbox.guid, folder.id)
        item.folder = folder
        item.version += 1
        self._insert(item)
        if folder.mailbox is not old_folder.mailbox:
            deleted = Event(
                "Deleted", _count(old_folder.mailbox), self._clock.now(), old_folder, old_id, key
            )
            self._publish([deleted, self._folder_event(old_folder)])
            self._publish([self._item_event("Created", item), self._folder_event(folder)])
            return item
        moved = replace(self._item_event("Moved", item), old_item_id=old_id, old_folder=old_folder)
        events = [moved, self._folder_event(old_folder)]
        if folder is not old_folder:
            events.append(self._folder_event(folder))
        self._publish(events)
        return item

    def delete(self, item: Item) -> None:
        """Removes an item for good."""
        self._remove(item)
        self._publish([self._item_event("Deleted", item), self._folder_event(item.folder)])

    def own_address(self, mailbox: Mailbox) -> Address:
        """How the mailbox's owner is named as a sender."""
        return Address(mailbox.name, mailbox.address)

    def _insert(self, item: Item) -> None:
        self._items[item.id] = item
        item.folder.items[item.id] = item
        item.folder.unread += not item.content.is_read

    def _remove(self, item: Item) -> None:
        del self._items[item.id]
        del item.folder.items[item.id]
        item.folder.unread -= not item.content.is_read

    def _item_event(self, kind: EventKind, item: Item) -> Event:
        counter = _count(item.folder.mailbox)
        return Event(kind, counter, self._clock.now(), item.folder, item.id, item.change_key)

    def _folder_event(self, folder: Folder) -> Event:
        folder.version += 1
        counter = _count(folder.mailbox)
        return Event(
            "Modified",
            counter,
            self._clock.now(),
            folder,
            change_key=folder.change_key,
            unread_count=folder.unread,
        )


def _count(mailbox: Mailbox) -> int:
    mailbox.events += 1
    return mailbox.events


def _printable(draft: Draft) -> Draft:
    texts: dict[str, Any] = {
        name: _NOT_XML.sub("", getattr(draft, name)) for name in ("subject", "body", "location")
    }
    sender, author = (
        person and Address(_NOT_XML.sub("", person.name), _NOT_XML.sub("", person.address))
        for person in (draft.sender, draft.author)
    )
    return replace(draft, sender=sender, author=author, **texts)
