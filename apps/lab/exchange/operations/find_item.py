"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/finditem-operation"""

from __future__ import annotations

from ..errors import EwsError
from ..restrictions import compile_restriction, sort
from ..shapes import Look, read_shape, write_item
from ..soap import MESSAGES, Element, m, success, t
from .call import Call
from .paging import page


def find_item(call: Call) -> list[Element]:
    """The items of each folder that meet the restriction, sorted, one page of them."""
    body = call.body
    shape = read_shape(body, "ItemShape")
    look = Look(call.caller, full=False, sender_addresses=not call.server.is_2010)
    restriction = body.find(f"{{{MESSAGES}}}Restriction")
    order = body.find(f"{{{MESSAGES}}}SortOrder")
    associated = body.get("Traversal") != "Shallow"

    def one(folder_id: Element) -> Element:
        if body.find(f"{{{MESSAGES}}}QueryString") is not None:
            raise EwsError("ErrorUnsupportedQueryFilter")
        folder = call.readable_folder(folder_id)
        # The store keeps neither associated nor soft-deleted items.
        items = [] if associated else list(folder.items.values())
        if restriction is not None:
            items = list(filter(compile_restriction(restriction), items))
        found = page(body, "IndexedPageItemView", sort(items, order))
        message = success("FindItem")
        root = m(message, "RootFolder")
        found.describe(root)
        holder = t(root, "Items")
        for item in found.entries:
            write_item(holder, item, shape, look)
        return message

    return call.each(call.all_of("ParentFolderIds"), one)
