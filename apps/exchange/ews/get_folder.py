"""GetFolder: https://learn.microsoft.com/exchange/client-developer/web-service-reference/getfolder-operation

Used for two things: the proof of whose mailbox it is, and the Inbox's unread count.
"""

from __future__ import annotations

from lxml import etree

from apps.exchange.errors import ExchangeError, MailboxNotFound, NotEws, NotThisMailbox
from apps.exchange.ews import soap
from apps.exchange.interface import Proof

UNREAD_REQUEST = soap.envelope(
    "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>"
    '<t:FieldURI FieldURI="folder:UnreadCount"/></t:AdditionalProperties></m:FolderShape>'
    f"<m:FolderIds>{soap.INBOX}</m:FolderIds></m:GetFolder>"
)


def proof_request(address: str) -> bytes:
    """Ask for the caller's own Inbox and for the Inbox of `address`, in one request."""
    return soap.envelope(
        "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>"
        f'<m:FolderIds>{soap.INBOX}<t:DistinguishedFolderId Id="inbox"><t:Mailbox>'
        f"<t:EmailAddress>{soap.text(address)}</t:EmailAddress></t:Mailbox>"
        "</t:DistinguishedFolderId></m:FolderIds></m:GetFolder>"
    )


def parse_proof(raw: bytes) -> Proof:
    """Compare the two folder ids, which are case-sensitive.

    An Inbox that the caller may merely read has another id than his own; one that he may not
    read is an error. Both mean the same here. A transient error means nothing yet.

    Raises:
        NotThisMailbox: the claimed address is somebody else's.
        NonPrimaryAddress: the claimed address is an alias; ask for the primary one.
        MailboxNotFound: the claimed address is nobody's, or the caller has no mailbox.
        ExchangeError: the caller's own Inbox, or the whole request, was refused.
    """
    messages = soap.response_messages(raw, "GetFolder")
    if len(messages) != 2:
        raise NotEws
    own = _folder_id(soap.checked(messages[0]))
    try:
        claimed = _folder_id(soap.checked(messages[1]))
    except (NotEws, MailboxNotFound):
        raise
    except ExchangeError as error:
        if error.transient:
            raise
        raise NotThisMailbox from None
    if own != claimed:
        raise NotThisMailbox
    return Proof(own)


def parse_unread(raw: bytes) -> int:
    """The Inbox's unread count.

    Raises:
        ExchangeError: refused, or not an answer to GetFolder.
    """
    message = soap.checked(soap.response_messages(raw, "GetFolder")[0])
    count = soap.required(_folder(message), f"{soap.TYPES}UnreadCount")
    if not (count.isascii() and count.isdigit() and len(count) < 10):
        raise NotEws
    return int(count)


def _folder(message: etree._Element) -> etree._Element:
    folders = message.find(f"{soap.MESSAGES}Folders")
    if folders is None or len(folders) != 1:
        raise NotEws
    return folders[0]


def _folder_id(message: etree._Element) -> str:
    return soap.required(_folder(message).find(f"{soap.TYPES}FolderId"), "Id")
