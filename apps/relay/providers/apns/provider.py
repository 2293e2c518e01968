"""Sends notifications to APNs, all of a batch side by side on one HTTP/2 connection.

https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from apps.relay.providers import Notification, Outcome
from apps.relay.providers.apns.classify import classify, classify_error
from apps.relay.providers.apns.token import SigningKey, provider_token
from apps.wire.client import Client, Request, Tls
from apps.wire.errors import WireError

PRODUCTION = "https://api.push.apple.com"
SANDBOX = "https://api.sandbox.push.apple.com"

# Below the time for which a caller waits for the whole batch.
_DEADLINE_S = 8.0
_MAX_ANSWER_BYTES = 16 * 1024

Done = Callable[[tuple[Notification, Outcome]], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One notification with what is needed to send it."""

    notification: Notification
    key: SigningKey = field(repr=False)
    sandbox: bool


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

    async def send(self, jobs: Sequence[Job], done: Done) -> None:
        """Send all jobs side by side; `done` hears of each once, as soon as it is answered."""
        now = time.time()
        await asyncio.gather(*(self._send_one(job, now, done) for job in jobs))

    async def _send_one(self, job: Job, now: float, done: Done) -> None:
        try:
            outcome = classify(await self._client.perform(self._request(job, now)))
        except WireError as error:
            outcome = classify_error(error)
        done((job.notification, outcome))

    def _request(self, job: Job, now: float) -> Request:
        sent = job.notification
        headers = [
            ("authorization", f"bearer {provider_token(job.key, now)}"),
            ("apns-id", sent.id),
            ("apns-topic", sent.app),
            ("apns-push-type", sent.push_type),
            ("apns-priority", str(sent.priority)),
            ("apns-expiration", str(sent.expiration)),
        ]
        if sent.collapse_id:
            headers.append(("apns-collapse-id", sent.collapse_id))
        base = self._url or (SANDBOX if job.sandbox else PRODUCTION)
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
