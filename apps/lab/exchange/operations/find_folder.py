"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/findfolder-operation"""

from __future__ import annotations

from ..model import Folder
from ..shapes import children, read_shape, write_folder
from ..soap import Element, m, success, t
from .call import Call
from .paging import page


def find_folder(call: Call) -> list[Element]:
    """The folders below each parent that the caller may read."""
    shape = read_shape(call.body, "FolderShape")
    deep = call.body.get("Traversal") == "Deep"

    def one(folder_id: Element) -> Element:
        parent = call.readable_folder(folder_id)
        below = _below(parent) if deep else children(parent)
        readable = [f for f in below if f.mailbox.readable_by(call.caller, f)]
        found = page(call.body, "IndexedPageFolderView", readable)
        message = success("FindFolder")
        root = m(message, "RootFolder")
        found.describe(root)
        holder = t(root, "Folders")
        for folder in found.entries:
            write_folder(holder, folder, shape, call.caller)
        return message

    return call.each(call.all_of("ParentFolderIds"), one)


def _below(folder: Folder) -> list[Folder]:
    found = []
    for child in children(folder):
        found += [child, *_below(child)]
    return found
