"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/subscribe-operation
and .../unsubscribe-operation: push subscriptions only, and Unsubscribe refuses those."""

from __future__ import annotations

from ..errors import EwsError
from ..model import Folder
from ..push import Subscription
from ..soap import MESSAGES, TYPES, Element, failure, m, success
from .call import Call

_MAX_URL = 2082


async def subscribe(call: Call) -> list[Element]:
    """Makes a push subscription, after its webhook has answered a first StatusEvent."""
    try:
        subscription = _read(call)
        await call.hub.add(subscription)
    except EwsError as error:
        return [failure("Subscribe", error)]
    message = success("Subscribe")
    m(message, "SubscriptionId", subscription.id)
    m(message, "Watermark", subscription.first_watermark)
    return [message]


def _read(call: Call) -> Subscription:
    asked = call.body.find(f"{{{MESSAGES}}}PushSubscriptionRequest")
    if asked is None:
        raise EwsError("ErrorInvalidSubscriptionRequest")
    if asked.find(f"{{{TYPES}}}Watermark") is not None:
        # Events are not kept, so every watermark is too old.
        raise EwsError("ErrorInvalidWatermark")
    url = asked.findtext(f"{{{TYPES}}}URL", "")
    if not 0 < len(url) <= _MAX_URL:
        raise EwsError("ErrorInvalidPushSubscriptionUrl")
    frequency = int(asked.findtext(f"{{{TYPES}}}StatusFrequency", "0"))
    if not 1 <= frequency <= 1440:
        raise EwsError("ErrorSchemaValidation")
    kinds = asked.iterfind(f"{{{TYPES}}}EventTypes/{{{TYPES}}}EventType")
    folders = _folders(call, asked)
    return Subscription(
        owner=call.caller,
        mailbox=folders[0].mailbox,
        folders=frozenset(folder.id for folder in folders),
        kinds=frozenset((kind.text or "").removesuffix("Event") for kind in kinds),
        url=url,
        status_frequency_minutes=frequency,
        schema_version=call.request.version,
    )


def _folders(call: Call, asked: Element) -> list[Folder]:
    if asked.get("SubscribeToAllFolders") in ("true", "1"):
        call.store.folder(call.caller, "inbox")
        return list(call.caller.folders().values())
    named = asked.find(f"{{{TYPES}}}FolderIds")
    folders = [] if named is None else [call.readable_folder(child) for child in named]
    if len({folder.mailbox.guid for folder in folders}) != 1:
        raise EwsError("ErrorInvalidSubscriptionRequest")
    return folders


def unsubscribe(call: Call) -> list[Element]:
    """Refuses: a push subscription ends only by the answer to its next notification."""
    known = call.hub.get(call.body.findtext(f"{{{MESSAGES}}}SubscriptionId", ""))
    code = "ErrorSubscriptionNotFound" if known is None else "ErrorInvalidPullSubscriptionId"
    if known is not None and known.owner is not call.caller:
        code = "ErrorSubscriptionAccessDenied"
    return [failure("Unsubscribe", EwsError(code))]
