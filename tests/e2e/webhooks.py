"""What only Exchange knows in life: the webhook URLs. Here they are read from what it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from lxml import etree

from apps.lab.stand.stand import Stand

TYPES = "http://schemas.microsoft.com/exchange/services/2006/types"
MESSAGES = "http://schemas.microsoft.com/exchange/services/2006/messages"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


@dataclass(frozen=True)
class Webhook:
    """One webhook URL, in parts: `ticket` names the subscription, `creds` are sealed."""

    address: str
    ticket: str = field(repr=False)
    creds: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Webhook:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        address = f"{parts.scheme}://{parts.netloc}{parts.path}"
        return cls(address, query["id"][0], query["creds"][0])

    def post(
        self,
        body: bytes,
        *,
        ticket: str | None = None,
        creds: str | None = None,
        content_type: str = "text/xml; charset=utf-8",
        method: str = "POST",
    ) -> requests.Response:
        """Call it as Exchange does, or with another ticket or other creds."""
        query = {
            "id": self.ticket if ticket is None else ticket,
            "creds": self.creds if creds is None else creds,
        }
        return requests.request(
            method,
            f"{self.address}?{urlencode(query)}",
            data=body,
            headers={"Content-Type": content_type},
            timeout=20,
        )

    def new_mail(self, subscription_id: str, item_id: str) -> bytes:
        """A notification of one new mail."""
        return f"""<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="{SOAP}" xmlns:m="{MESSAGES}" xmlns:t="{TYPES}"><s:Body>
<m:SendNotification><m:ResponseMessages>
<m:SendNotificationResponseMessage ResponseClass="Success">
<m:ResponseCode>NoError</m:ResponseCode><m:Notification>
<t:SubscriptionId>{subscription_id}</t:SubscriptionId>
<t:PreviousWatermark>AQ==</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>
<t:NewMailEvent><t:Watermark>AQ==</t:Watermark><t:TimeStamp>2026-01-01T00:00:00Z</t:TimeStamp>
<t:ItemId Id="{item_id}" ChangeKey="AQ=="/><t:ParentFolderId Id="AQ==" ChangeKey="AQ=="/>
</t:NewMailEvent></m:Notification></m:SendNotificationResponseMessage>
</m:ResponseMessages></m:SendNotification></s:Body></s:Envelope>""".encode()


@contextmanager
def webhooks_asked_for(stand: Stand) -> Iterator[list[Webhook]]:
    """The webhook URLs of the Subscribe requests sent in the block; filled in when it ends."""
    before = _requests(stand)
    urls: list[Webhook] = []
    yield urls
    for file in sorted(_requests(stand) - before):
        url = subscribed_url(file.read_bytes())
        if url:
            urls.append(Webhook.of(url))


def subscribed_url(request: bytes) -> str:
    """The webhook URL in a Subscribe request; empty for other operations."""
    return etree.fromstring(request).findtext(f".//{{{TYPES}}}URL", "")


def _requests(stand: Stand) -> set[Path]:
    return set((stand.home / "soap").glob("*-request.xml"))
