"""What made-up inputs begin from: one of each kind that really occurs."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.exchange import answers
from tests.exchange.autodiscover import messages

HEADER: dict[str, Any] = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "k"}
_SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
_MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
_TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
_EVENTS = (
    "<t:NewMailEvent><t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp>"
    '<t:ItemId Id="i" ChangeKey="c"/><t:ParentFolderId Id="f" ChangeKey="c"/></t:NewMailEvent>',
    "<t:ModifiedEvent><t:Watermark>Ag==</t:Watermark><t:TimeStamp>2026-11-21T10:00:00.123+02:00"
    '</t:TimeStamp><t:FolderId Id="f" ChangeKey="c"/><t:ParentFolderId Id="p"/>'
    "<t:UnreadCount>7</t:UnreadCount></t:ModifiedEvent>",
    "<t:MovedEvent><t:Watermark>Aw==</t:Watermark><t:TimeStamp>2026-11-21T10:00:00Z</t:TimeStamp>"
    '<t:ItemId Id="j"/><t:ParentFolderId Id="f"/><t:OldItemId Id="i"/><t:OldParentFolderId Id="o"/>'
    "</t:MovedEvent>",
    "<t:StatusEvent><t:Watermark>BA==</t:Watermark></t:StatusEvent>",
)


def _notification(inner: str, result: str = "Success", code: str = "NoError") -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><soap11:Envelope xmlns:soap11="{_SOAP}">'
        f'<soap11:Header><t:RequestServerVersion xmlns:t="{_TYPES}" Version="Exchange2010_SP2"/>'
        f'</soap11:Header><soap11:Body><m:SendNotification xmlns:m="{_MESSAGES}" '
        f'xmlns:t="{_TYPES}"><m:ResponseMessages><m:SendNotificationResponseMessage '
        f'ResponseClass="{result}"><m:ResponseCode>{code}</m:ResponseCode>{inner}'
        "</m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification>"
        "</soap11:Body></soap11:Envelope>"
    ).encode()


def _events(*events: str) -> bytes:
    return _notification(
        "<m:Notification><t:SubscriptionId>sub</t:SubscriptionId>"
        "<t:PreviousWatermark>AA==</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>"
        f"{''.join(events)}</m:Notification>"
    )


def _answers() -> list[bytes]:
    alias = answers.value("Primary", "anna@example.com")
    hint = answers.value("BackOffMilliseconds", "1500")
    inner = answers.value("InnerErrorResponseCode", "ErrorServerBusy")
    folder, item = answers.folder("A", 5), answers.item("1")
    return [
        answers.unchecked("Subscribe", answers.subscribed()),
        answers.unchecked("FindItem", answers.found("1", "2")),
        answers.unchecked("GetFolder", folder),
        answers.unchecked("GetFolder", folder, folder),
        answers.unchecked("GetFolder", folder, answers.folder_error("ErrorAccessDenied")),
        answers.unchecked("GetItem", item),
        answers.unchecked("GetItem", item, answers.item_error("ErrorItemNotFound")),
        answers.unchecked("GetItem", item.replace("Lunch", "&#0;&#x1f600;&amp;")),
        answers.fault("ErrorNonPrimarySmtpAddress", alias),
        answers.fault("ErrorServerBusy", hint),
        answers.fault("ErrorInternalServerError", inner + hint),
    ]


def _autodiscover() -> list[bytes]:
    url = "https://mail.example.com/EWS/Exchange.asmx"
    exchange, web = messages.protocol("EXCH", ASUrl=url), messages.protocol("EXPR", EwsUrl=url)
    moved = "<Action>redirectAddr</Action><RedirectAddr>a@b.example</RedirectAddr>"
    return [
        messages.settings(ExternalEwsUrl=url, InternalEwsUrl=url),
        messages.user_error("RedirectAddress", "a@b.example"),
        messages.user_error("RedirectUrl", "https://[::1/autodiscover.svc"),
        messages.user_error("ServerBusy"),
        messages.account(exchange, web),
        messages.account(action=moved),
        messages.pox('<Error Time="1" Id="2"><ErrorCode>500</ErrorCode></Error>'),
    ]


_OFFERS = (
    b'Negotiate, NTLM, Basic realm="mail, \\"x\\""',
    b'Bearer client_id="a", trusted_issuers="b@*", Negotiate oRQwEqADCgEB',
    b"NTLM TlRMTVNTUAACAAAAAAAAADgAAAA=",
)


@cache
def seeds(target: str) -> list[bytes]:
    """The inputs that a target's made-up ones begin from."""
    if target == "offers":
        return list(_OFFERS)
    if target == "notification":
        failed = '<m:MessageXml><t:Value Name="SubscriptionId">sub</t:Value></m:MessageXml>'
        found = [_events(event) for event in _EVENTS]
        return [*found, _events(*_EVENTS), _notification(failed, "Error", "ErrorReadEventsFailed")]
    if target == "answer":
        return _answers()
    if target == "autodiscover":
        return _autodiscover()
    header = b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k","typ":"JWE"}'
    claims = b'{"iat":1763719200,"jti":"0123456789abcdef","email":"anna@example.com","x":[1,{}]}'
    parts = [bytes([3, part]) + b"0123456789abcdef" for part in range(5)]
    return [b"\x00a.b.c.d.e", b"\x01" + claims, b"\x02" + header, *parts]


# Pieces that decide something in what is parsed.
WORDS = (
    "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "<!ENTITY",
    "<![CDATA[",
    "]]>",
    "<?xml version='1.0' encoding='utf-16'?>",
    "&#0;",
    "&#x110000;",
    "&#xd800;",
    "&lol;",
    "\ufeff",
    "xmlns:m=''",
    'ResponseClass="Success"',
    'ResponseClass="Error"',
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "999999999999",
    "-1",
    "NaN",
    "ErrorItemNotFound",
    "ErrorServerBusy",
    "BackOffMilliseconds",
    '{"zip":"DEF"}',
    '"crit":["b64"]',
    "\\u0000",
    "\\ud800",
    "1e999",
)
