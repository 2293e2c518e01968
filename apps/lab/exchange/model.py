"""What the pretend Exchange keeps: mailboxes, folders, items and who may see them. All in memory.

A mailbox costs next to nothing until somebody looks into it: its folders are made then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from . import ids

Kind = Literal["Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation"]
KINDS: tuple[Kind, ...] = ("Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation")

# Distinguished name: (parent, display name, folder class, element).
_TREE: dict[str, tuple[str, str, str, str]] = {
    "root": ("", "", "", "Folder"),
    "msgfolderroot": ("root", "Top of Information Store", "IPF.Note", "Folder"),
    "inbox": ("msgfolderroot", "Inbox", "IPF.Note", "Folder"),
    "drafts": ("msgfolderroot", "Drafts", "IPF.Note", "Folder"),
    "sentitems": ("msgfolderroot", "Sent Items", "IPF.Note", "Folder"),
    "deleteditems": ("msgfolderroot", "Deleted Items", "IPF.Note", "Folder"),
    "outbox": ("msgfolderroot", "Outbox", "IPF.Note", "Folder"),
    "junkemail": ("msgfolderroot", "Junk Email", "IPF.Note", "Folder"),
    "calendar": ("msgfolderroot", "Calendar", "IPF.Appointment", "CalendarFolder"),
    "contacts": ("msgfolderroot", "Contacts", "IPF.Contact", "ContactsFolder"),
    "tasks": ("msgfolderroot", "Tasks", "IPF.Task", "TasksFolder"),
    "notes": ("msgfolderroot", "Notes", "IPF.StickyNote", "Folder"),
    "journal": ("msgfolderroot", "Journal", "IPF.Journal", "Folder"),
    "recoverableitemsroot": ("root", "Recoverable Items", "", "Folder"),
    "recoverableitemsdeletions": ("recoverableitemsroot", "Deletions", "", "Folder"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A name and an SMTP address."""

    name: str = field(repr=False)
    address: str = field(repr=False)


@dataclass(slots=True)
class Draft:
    """What is known of an item before it lies in a folder."""

    kind: Kind = "Message"
    subject: str = field(default="", repr=False)
    body: str = field(default="", repr=False)
    body_type: Literal["Text", "HTML"] = "Text"
    sender: Address | None = None
    author: Address | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    importance: str = "Normal"
    sensitivity: str = "Normal"
    categories: tuple[str, ...] = ()
    is_read: bool = False
    is_draft: bool = False
    internet_message_id: str = field(
        default_factory=lambda: f"<{uuid4().hex}@lab.example>", repr=False
    )
    sent_at: datetime | None = None
    starts_at: datetime | None = None
    duration: timedelta = timedelta(hours=1)
    location: str = field(default="", repr=False)


@dataclass(slots=True)
class Item:
    """An item in a folder. Its id changes when it moves, its change key whenever it changes."""

    id: str
    folder: Folder = field(repr=False)
    content: Draft
    received_at: datetime
    modified_at: datetime
    created_at: datetime
    version: int = 1

    @property
    def change_key(self) -> str:
        """The change key of the item's present state."""
        return ids.change_key(self.version)

    @property
    def size(self) -> int:
        """Bytes, roughly what a store would count."""
        return 1024 + len(self.content.body.encode()) + len(self.content.subject.encode())


@dataclass(slots=True, eq=False)
class Folder:
    """A folder of a mailbox. `unread` always equals the number of its unread items."""

    id: str
    name: str
    display_name: str
    folder_class: str
    element: str
    mailbox: Mailbox = field(repr=False)
    parent: Folder | None = field(repr=False)
    items: dict[str, Item] = field(default_factory=dict, repr=False)
    unread: int = 0
    version: int = 1

    @property
    def change_key(self) -> str:
        """The change key of the folder's present state."""
        return ids.change_key(self.version)


@dataclass(slots=True, eq=False)
class Mailbox:
    """A user: how they log in, where they get mail, who else may look.

    `full_access` holds primary addresses of users with FullAccess (delegates of the whole mailbox);
    `reviewers` maps a folder's name to the addresses that hold Reviewer (read only) on it.
    `wrong_tries` in a row lead to a lock-out (`lockout.py`) until `locked_until` (lab seconds).
    """

    address: str = field(repr=False)
    name: str = field(repr=False)
    username: str = field(repr=False)
    domain: str = field(repr=False)
    password: str = field(repr=False)
    aliases: tuple[str, ...] = field(default=(), repr=False)
    guid: UUID = field(default_factory=uuid4)
    full_access: set[str] = field(default_factory=set, repr=False)
    reviewers: dict[str, set[str]] = field(default_factory=dict, repr=False)
    events: int = 0
    wrong_tries: int = 0
    locked_until: float = 0.0
    _folders: dict[str, Folder] = field(default_factory=dict, repr=False)

    def folders(self) -> dict[str, Folder]:
        """All folders by distinguished name, parents first."""
        if not self._folders:
            for name, (parent, display_name, folder_class, element) in _TREE.items():
                self._folders[name] = Folder(
                    ids.folder_id(self.guid, name),
                    name,
                    display_name,
                    folder_class,
                    element,
                    self,
                    self._folders.get(parent),
                )
        return self._folders

    @property
    def is_open(self) -> bool:
        """True once somebody looked into the mailbox, and its folders exist."""
        return bool(self._folders)

    def owned_by(self, caller: Mailbox) -> bool:
        """True for the owner and for delegates with FullAccess."""
        return caller is self or caller.address.lower() in self.full_access

    def readable_by(self, caller: Mailbox, folder: Folder) -> bool:
        """True where the caller may read this folder of the mailbox."""
        return self.owned_by(caller) or caller.address.lower() in self.reviewers.get(
            folder.name, ()
        )
