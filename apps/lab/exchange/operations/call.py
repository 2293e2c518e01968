"""What every operation is handed, and how it finds the folders and items a request names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lxml import etree

from ..clock import Clock
from ..errors import EwsError
from ..model import Folder, Item, Mailbox
from ..push import PushHub
from ..soap import MESSAGES, TYPES, Element, Request, ServerVersion, failure
from ..store import Store


@dataclass(frozen=True, slots=True)
class Call:
    """One request by one authenticated user."""

    caller: Mailbox = field(repr=False)
    request: Request
    store: Store = field(repr=False)
    hub: PushHub = field(repr=False)
    clock: Clock = field(repr=False)
    server: ServerVersion
    strict_aliases: bool = False

    @property
    def body(self) -> Element:
        """The operation's element."""
        return self.request.body

    def all_of(self, path: str) -> list[Element]:
        """The elements inside a container of the request, e.g. all ids in `ItemIds`."""
        container = self.body.find(f"{{{MESSAGES}}}{path}")
        return [] if container is None else list(container.iterchildren(etree.Element))

    def each(
        self, elements: Iterable[Element], handle: Callable[[Element], Element]
    ) -> list[Element]:
        """One response message for each element, an error where `handle` raises one."""
        messages = []
        for element in elements:
            try:
                messages.append(handle(element))
            except EwsError as error:
                messages.append(failure(self.request.operation, error))
        return messages

    def readable_folder(self, element: Element) -> Folder:
        """The folder an id names, if the caller may read it. Raises `EwsError`."""
        folder = self._folder(element)
        if not folder.mailbox.readable_by(self.caller, folder):
            raise EwsError("ErrorAccessDenied")
        return folder

    def writable_folder(self, element: Element) -> Folder:
        """The folder an id names, if the caller may change it. Raises `EwsError`."""
        folder = self.readable_folder(element)
        if not folder.mailbox.owned_by(self.caller):
            raise EwsError("ErrorAccessDenied")
        return folder

    def _folder(self, element: Element) -> Folder:
        if etree.QName(element).localname == "FolderId":
            return self.store.folder_by_id(element.get("Id", ""))
        address = element.findtext(f"{{{TYPES}}}Mailbox/{{{TYPES}}}EmailAddress")
        if address is None:
            mailbox = self.caller
        elif self.strict_aliases:
            mailbox = self.store.primary(address)
        else:
            mailbox = self.store.mailbox(address)
        return self.store.folder(mailbox, element.get("Id", ""))

    def readable_item(self, element: Element) -> Item:
        """The item an id names, if the caller may read it. Raises `EwsError`."""
        item = self.store.item(element.get("Id", ""))
        if not item.folder.mailbox.readable_by(self.caller, item.folder):
            raise EwsError("ErrorAccessDenied")
        return item

    def writable_item(self, element: Element) -> Item:
        """The item an id names, if the caller may change it. Raises `EwsError`."""
        item = self.readable_item(element)
        if not item.folder.mailbox.owned_by(self.caller):
            raise EwsError("ErrorAccessDenied")
        return item
