"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/moveitem-operation"""

from __future__ import annotations

from ..errors import EwsError
from ..shapes import write_item_id
from ..soap import MESSAGES, Element, m, success
from .call import Call


def move_item(call: Call) -> list[Element]:
    """Moves each item and tells its new id, unless that isn't wanted or the mailbox is another."""
    target = call.body.find(f"{{{MESSAGES}}}ToFolderId")
    folder_id = None if target is None else next(target.iterchildren(), None)
    with_ids = call.body.findtext(f"{{{MESSAGES}}}ReturnNewItemIds", "true") != "false"

    def one(item_id: Element) -> Element:
        if folder_id is None:
            raise EwsError("ErrorToFolderNotFound")
        folder = call.writable_folder(folder_id)
        item = call.writable_item(item_id)
        same_mailbox = folder.mailbox is item.folder.mailbox
        moved = call.store.move(item, folder)
        message = success("MoveItem")
        items = m(message, "Items")
        if with_ids and same_mailbox:
            write_item_id(items, moved)
        return message

    return call.each(call.all_of("ItemIds"), one)
