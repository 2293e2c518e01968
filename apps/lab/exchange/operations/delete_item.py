"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/deleteitem-operation"""

from __future__ import annotations

from ..soap import Element, success
from .call import Call

_TO_FOLDER = {
    "MoveToDeletedItems": "deleteditems",
    "SoftDelete": "recoverableitemsdeletions",
}


def delete_item(call: Call) -> list[Element]:
    """Deletes for good, or moves to where the delete type says."""
    folder_name = _TO_FOLDER.get(call.body.get("DeleteType", ""))

    def one(item_id: Element) -> Element:
        item = call.writable_item(item_id)
        if folder_name is None:
            call.store.delete(item)
        else:
            call.store.move(item, call.store.folder(item.folder.mailbox, folder_name))
        return success("DeleteItem")

    return call.each(call.all_of("ItemIds"), one)
