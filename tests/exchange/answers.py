"""Answers of an Exchange, written out by hand as it sends them."""

from __future__ import annotations

from tests.exchange.schema import assert_valid

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>'
    '<h:ServerVersionInfo MajorVersion="15" MinorVersion="1" Version="V2017_07_11" '
    'xmlns:h="http://schemas.microsoft.com/exchange/services/2006/types"/></s:Header>'
    '<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
)
_TAIL = "</s:Body></s:Envelope>"
_NAMESPACES = (
    'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" '
    'xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"'
)


def response(operation: str, *messages: str) -> bytes:
    """An answer of `operation` with these response messages; valid by the schema."""
    raw = unchecked(operation, *messages)
    assert_valid(raw)
    return raw


def unchecked(operation: str, *messages: str) -> bytes:
    """The same, whatever the schema says."""
    return (
        f"{_HEAD}<m:{operation}Response {_NAMESPACES}><m:ResponseMessages>{''.join(messages)}"
        f"</m:ResponseMessages></m:{operation}Response>{_TAIL}"
    ).encode()


def success(operation: str, inner: str) -> str:
    return (
        f'<m:{operation}ResponseMessage ResponseClass="Success">'
        f"<m:ResponseCode>NoError</m:ResponseCode>{inner}</m:{operation}ResponseMessage>"
    )


def error(operation: str, code: str, inner: str = "", values: str = "") -> str:
    return (
        f'<m:{operation}ResponseMessage ResponseClass="Error">'
        "<m:MessageText>No, anna.</m:MessageText>"
        f"<m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>"
        f"<m:MessageXml>{values}</m:MessageXml>{inner}</m:{operation}ResponseMessage>"
    )


def fault(code: str, values: str = "") -> bytes:
    return (
        f"{_HEAD}<s:Fault><faultcode xmlns:a='http://schemas.microsoft.com/exchange/services/"
        f"2006/types'>a:{code}</faultcode><faultstring xml:lang='en-US'>No.</faultstring><detail>"
        "<e:ResponseCode xmlns:e='http://schemas.microsoft.com/exchange/services/2006/errors'>"
        f"{code}</e:ResponseCode><t:MessageXml xmlns:t='http://schemas.microsoft.com/exchange/"
        f"services/2006/types'>{values}</t:MessageXml></detail></s:Fault>{_TAIL}"
    ).encode()


def value(name: str, content: str) -> str:
    return f'<t:Value Name="{name}" {_NAMESPACES}>{content}</t:Value>'


def folder(folder_id: str, unread: int | None = None) -> str:
    count = "" if unread is None else f"<t:UnreadCount>{unread}</t:UnreadCount>"
    return success(
        "GetFolder",
        f'<m:Folders><t:Folder><t:FolderId Id="{folder_id}" ChangeKey="AQ"/>{count}</t:Folder>'
        "</m:Folders>",
    )


def folder_error(code: str) -> str:
    return error("GetFolder", code, "<m:Folders/>")


def subscribed(subscription_id: str = "sub+/=1", watermark: str = "AQAAAA==") -> str:
    return success(
        "Subscribe",
        f"<m:SubscriptionId>{subscription_id}</m:SubscriptionId>"
        f"<m:Watermark>{watermark}</m:Watermark>",
    )


def mailbox(role: str, name: str, address: str, routing: str = "SMTP") -> str:
    return (
        f"<t:{role}><t:Mailbox><t:Name>{name}</t:Name><t:EmailAddress>{address}</t:EmailAddress>"
        f"<t:RoutingType>{routing}</t:RoutingType></t:Mailbox></t:{role}>"
    )


def item(
    item_id: str,
    subject: str = "Lunch",
    *,
    element: str = "Message",
    item_class: str = "IPM.Note",
    received: str = "2026-11-21T10:00:00Z",
    people: str | None = None,
    is_read: str = "<t:IsRead>false</t:IsRead>",
) -> str:
    if people is None:
        people = mailbox("Sender", "Sec", "sec@example.com") + mailbox(
            "From", "Bert", "bert@example.com"
        )
    return success(
        "GetItem",
        f'<m:Items><t:{element}><t:ItemId Id="{item_id}" ChangeKey="CQ"/>'
        f'<t:ParentFolderId Id="inbox-id" ChangeKey="AQ"/><t:ItemClass>{item_class}</t:ItemClass>'
        f"<t:Subject>{subject}</t:Subject><t:DateTimeReceived>{received}</t:DateTimeReceived>"
        f"{people}{is_read}</t:{element}></m:Items>",
    )


def item_error(code: str, values: str = "") -> str:
    return error("GetItem", code, "<m:Items/>", values)


def found(*item_ids: str) -> str:
    items = "".join(
        f'<t:Message><t:ItemId Id="{item_id}" ChangeKey="CQ"/></t:Message>' for item_id in item_ids
    )
    return success(
        "FindItem",
        f'<m:RootFolder IndexedPagingOffset="{len(item_ids)}" TotalItemsInView="{len(item_ids)}" '
        f'IncludesLastItemInRange="true"><t:Items>{items}</t:Items></m:RootFolder>',
    )
