"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/getfolder-operation"""

from __future__ import annotations

from ..shapes import read_shape, write_folder
from ..soap import Element, m, success
from .call import Call


def get_folder(call: Call) -> list[Element]:
    """One folder for each id asked for."""
    shape = read_shape(call.body, "FolderShape")

    def one(folder_id: Element) -> Element:
        folder = call.readable_folder(folder_id)
        message = success("GetFolder")
        write_folder(m(message, "Folders"), folder, shape, call.caller)
        return message

    return call.each(call.all_of("FolderIds"), one)
