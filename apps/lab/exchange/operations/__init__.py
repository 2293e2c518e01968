"""The operations of the pretend Exchange: one file each, found here by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..soap import Element
from .call import Call
from .convert_id import convert_id
from .create_item import create_item
from .delete_item import delete_item
from .find_folder import find_folder
from .find_item import find_item
from .get_folder import get_folder
from .get_item import get_item
from .move_item import move_item
from .resolve_names import resolve_names
from .send_item import send_item
from .subscribe import subscribe, unsubscribe
from .update_item import update_item

Operation = Callable[[Call], list[Element] | Awaitable[list[Element]]]

OPERATIONS: dict[str, Operation] = {
    "ConvertId": convert_id,
    "CreateItem": create_item,
    "DeleteItem": delete_item,
    "FindFolder": find_folder,
    "FindItem": find_item,
    "GetFolder": get_folder,
    "GetItem": get_item,
    "MoveItem": move_item,
    "ResolveNames": resolve_names,
    "SendItem": send_item,
    "Subscribe": subscribe,
    "Unsubscribe": unsubscribe,
    "UpdateItem": update_item,
}

__all__ = ["OPERATIONS", "Call", "Operation"]
