"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/senditem-operation"""

from __future__ import annotations

from dataclasses import replace

from ..errors import EwsError
from ..soap import MESSAGES, Element, success
from .call import Call


def send_item(call: Call) -> list[Element]:
    """Sends messages that were saved before, and keeps a copy where that is asked for."""
    save = call.body.get("SaveItemToFolder") in ("true", "1")
    target = call.body.find(f"{{{MESSAGES}}}SavedItemFolderId")
    folder_id = None if target is None else next(target.iterchildren(), None)

    def one(item_id: Element) -> Element:
        item = call.writable_item(item_id)
        if not item_id.get("ChangeKey"):
            raise EwsError("ErrorChangeKeyRequired")
        if item_id.get("ChangeKey") != item.change_key:
            raise EwsError("ErrorStaleObject")
        draft = item.content
        if not (draft.to or draft.cc or draft.bcc):
            raise EwsError("ErrorInvalidRecipients")
        folder = (
            call.store.folder(call.caller, "sentitems")
            if folder_id is None
            else call.writable_folder(folder_id)
        )
        call.store.delete(item)
        sent = replace(draft, is_draft=False, is_read=True, sent_at=call.clock.now())
        if save:
            call.store.save(folder, sent)
        call.store.send(sent)
        return success("SendItem")

    return call.each(call.all_of("ItemIds"), one)
