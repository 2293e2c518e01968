"""FindItem: https://learn.microsoft.com/exchange/client-developer/web-service-reference/finditem-operation

It only finds ids: FindItem shortens what it says of senders, GetItem does not.
"""

from __future__ import annotations

from datetime import UTC, datetime

from apps.exchange.errors import NotEws
from apps.exchange.ews import soap


def request(since: datetime, limit: int) -> bytes:
    """Ask for the unread items of the Inbox that came at `since` (aware) or later, newest first.

    Args:
        since: taken down to the whole second.
        limit: items at most.
    """
    moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return soap.envelope(
        '<m:FindItem Traversal="Shallow">'
        "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>"
        f'<m:IndexedPageItemView MaxEntriesReturned="{int(limit)}" Offset="0" '
        'BasePoint="Beginning"/>'
        "<m:Restriction><t:And>"
        '<t:IsEqualTo><t:FieldURI FieldURI="message:IsRead"/>'
        '<t:FieldURIOrConstant><t:Constant Value="false"/></t:FieldURIOrConstant></t:IsEqualTo>'
        '<t:IsGreaterThanOrEqualTo><t:FieldURI FieldURI="item:DateTimeReceived"/>'
        f'<t:FieldURIOrConstant><t:Constant Value="{moment}"/></t:FieldURIOrConstant>'
        "</t:IsGreaterThanOrEqualTo>"
        "</t:And></m:Restriction>"
        '<m:SortOrder><t:FieldOrder Order="Descending">'
        '<t:FieldURI FieldURI="item:DateTimeReceived"/></t:FieldOrder></m:SortOrder>'
        f"<m:ParentFolderIds>{soap.INBOX}</m:ParentFolderIds></m:FindItem>"
    )


def parse(raw: bytes) -> list[str]:
    """The ids found, in the server's order.

    Raises:
        ExchangeError: refused, or not an answer to FindItem.
    """
    message = soap.checked(soap.response_messages(raw, "FindItem")[0])
    items = message.find(f"{soap.MESSAGES}RootFolder/{soap.TYPES}Items")
    if items is None:
        raise NotEws
    return [soap.required(item.find(f"{soap.TYPES}ItemId"), "Id") for item in items]
