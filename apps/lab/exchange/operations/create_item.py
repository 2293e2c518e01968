"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/createitem-operation"""

from __future__ import annotations

from dataclasses import replace

from ..errors import EwsError
from ..shapes import write_item_id
from ..soap import MESSAGES, Element, m, success
from .call import Call
from .drafts import read_draft


def create_item(call: Call) -> list[Element]:
    """Saves, sends, or sends and saves each message; only what is saved alone has an id to tell."""
    disposition = call.body.get("MessageDisposition", "SaveOnly")
    target = call.body.find(f"{{{MESSAGES}}}SavedItemFolderId")
    folder_id = None if target is None else next(target.iterchildren(), None)

    def one(element: Element) -> Element:
        draft = read_draft(call, element)
        name = "drafts" if disposition == "SaveOnly" else "sentitems"
        folder = (
            call.store.folder(call.caller, name)
            if folder_id is None
            else call.writable_folder(folder_id)
        )
        message = success("CreateItem")
        items = m(message, "Items")
        if disposition == "SaveOnly":
            write_item_id(items, call.store.save(folder, replace(draft, is_draft=True)))
            return message
        if not (draft.to or draft.cc or draft.bcc):
            raise EwsError("ErrorInvalidRecipients")
        if disposition == "SendAndSaveCopy":
            call.store.save(folder, replace(draft, is_read=True, sent_at=call.clock.now()))
        call.store.send(draft)
        return message

    return call.each(call.all_of("Items"), one)
