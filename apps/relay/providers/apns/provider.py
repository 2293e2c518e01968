"""Sends notifications to APNs, all of a batch side by side on one HTTP/2 connection.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from apps.relay.providers import Done, Notification, OpenApp
from apps.relay.providers.apns.classify import classify, classify_error
from apps.relay.providers.apns.credentials import read_credentials
from apps.relay.providers.apns.token import provider_token
from apps.wire.client import Client, Request, Tls
from apps.wire.errors import WireError

PRODUCTION = "https://api.push.apple.com"
SANDBOX = "https://api.sandbox.push.apple.com"

# Below the time for which a caller waits for the whole batch.
_DEADLINE_S = 8.0
_MAX_ANSWER_BYTES = 16 * 1024


class ApnsProvider:
    """One per process, used from the background loop only.

    Args:
        url: another server than Apple's, for the lab.
        ca_pem: private CAs that signed its certificate.
    """

    def __init__(self, url: str | None = None, ca_pem: str = "") -> None:
        self._url = url
        self._tls = Tls(ca_pem=ca_pem)
        # Apple throttles providers that open many connections; one carries 1,000 streams.
        self._client = Client(max_host_connections=1)

    async def send(self, app: OpenApp, notifications: Sequence[Notification], done: Done) -> None:
        """Send them all side by side; see `Provider.send`."""
        now = time.time()
        token = provider_token(read_credentials(app.credentials), now)
        await asyncio.gather(*(self._send_one(app, token, each, done) for each in notifications))

    async def _send_one(self, app: OpenApp, token: str, sent: Notification, done: Done) -> None:
        try:
            outcome = classify(await self._client.perform(self._request(app, token, sent)))
        except WireError as error:
            outcome = classify_error(error)
        done(sent, outcome)

    def _request(self, app: OpenApp, token: str, sent: Notification) -> Request:
        headers = [
            ("authorization", f"bearer {token}"),
            ("apns-id", sent.id),
            ("apns-topic", sent.app),
            ("apns-push-type", sent.push_type),
            ("apns-priority", str(sent.priority)),
            ("apns-expiration", str(sent.expiration)),
        ]
        if sent.collapse_id:
            headers.append(("apns-collapse-id", sent.collapse_id))
        base = self._url or (SANDBOX if app.sandbox else PRODUCTION)
        return Request(
            "POST",
            f"{base}/3/device/{sent.token}",
            headers=tuple(headers),
            body=sent.payload,
            deadline_s=_DEADLINE_S,
            max_response_bytes=_MAX_ANSWER_BYTES,
            http2=True,
            tls=self._tls,
        )
