"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/getitem-operation"""

from __future__ import annotations

from ..shapes import Look, read_shape, write_item
from ..soap import Element, m, success
from .call import Call


def get_item(call: Call) -> list[Element]:
    """One item for each id asked for."""
    shape = read_shape(call.body, "ItemShape")
    look = Look(call.caller)

    def one(item_id: Element) -> Element:
        item = call.readable_item(item_id)
        message = success("GetItem")
        write_item(m(message, "Items"), item, shape, look)
        return message

    return call.each(call.all_of("ItemIds"), one)
