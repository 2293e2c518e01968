"""https://learn.microsoft.com/exchange/client-developer/web-service-reference/resolvenames-operation"""

from __future__ import annotations

from ..errors import EwsError
from ..model import Mailbox
from ..shapes import mailbox_element
from ..soap import MESSAGES, Element, boolean, describe, m, success, t
from .call import Call

_MOST = 100


def resolve_names(call: Call) -> list[Element]:
    """Finds users whose name, login or any address begins with the entry."""
    entry = call.body.findtext(f"{{{MESSAGES}}}UnresolvedEntry", "").strip()
    wanted = entry.lower().removeprefix("smtp:").removeprefix("=")
    full = call.body.get("ReturnFullContactData") in ("true", "1")

    def one(_: Element) -> Element:
        if not wanted or not wanted.strip("-, "):
            raise EwsError("ErrorInvalidNameForNameResolution")
        found = [box for box in call.store.mailboxes() if _matches(box, wanted)]
        if not found:
            raise EwsError("ErrorNameResolutionNoResults")
        message = success("ResolveNames")
        if len(found) > 1:
            message.clear()
            message.set("ResponseClass", "Warning")
            describe(message, EwsError("ErrorNameResolutionMultipleResults"))
        shown = found[:_MOST]
        resolutions = m(
            message,
            "ResolutionSet",
            TotalItemsInView=str(len(shown)),
            IncludesLastItemInRange=boolean(len(shown) == len(found)),
        )
        for mailbox in shown:
            _write(resolutions, call, mailbox, full=full)
        return message

    return call.each([call.body], one)


def _matches(mailbox: Mailbox, wanted: str) -> bool:
    names = (mailbox.name, mailbox.username, mailbox.address, *mailbox.aliases)
    words = [word for name in names for word in (name, *name.split()[1:])]
    return any(word.lower().startswith(wanted) for word in words)


def _write(parent: Element, call: Call, mailbox: Mailbox, *, full: bool) -> None:
    resolution = t(parent, "Resolution")
    mailbox_element(resolution, call.store.own_address(mailbox))
    if not full:
        return
    contact = t(resolution, "Contact")
    t(contact, "DisplayName", mailbox.name)
    addresses = t(contact, "EmailAddresses")
    # The dictionary has three places, the primary address first.
    for place, address in enumerate((mailbox.address, *mailbox.aliases)[:3], start=1):
        t(addresses, "Entry", f"SMTP:{address}", Key=f"EmailAddress{place}")
    t(contact, "ContactSource", "ActiveDirectory")
