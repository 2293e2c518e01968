"""What APNs says back: a status, and for anything but success a reason in JSON.

Apple's table:
https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

from __future__ import annotations

import json
from dataclasses import dataclass

STATUS_OF_REASON = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "BadEnvironmentKeyInToken": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `reason` is empty for 200. `timestamp_ms` says since when a token is dead."""

    status: int
    apns_id: str
    reason: str = ""
    timestamp_ms: int | None = None
    retry_after_s: int | None = None

    def headers(self) -> list[tuple[str, str]]:
        """The HTTP/2 header block."""
        found = [(":status", str(self.status)), ("apns-id", self.apns_id)]
        if self.reason:
            found.append(("content-type", "application/json"))
        if self.retry_after_s is not None:
            found.append(("retry-after", str(self.retry_after_s)))
        return found

    def body(self) -> bytes:
        """The JSON body; nothing on success."""
        if not self.reason:
            return b""
        content: dict[str, object] = {"reason": self.reason}
        if self.timestamp_ms is not None:
            content["timestamp"] = self.timestamp_ms
        return json.dumps(content).encode()


class Refused(Exception):
    """A check failed; carries Apple's reason and, for a dead token, since when it is dead."""

    def __init__(self, reason: str, timestamp_ms: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timestamp_ms = timestamp_ms

    def answer(self, apns_id: str) -> Answer:
        """The answer with the status Apple gives with this reason."""
        return Answer(STATUS_OF_REASON[self.reason], apns_id, self.reason, self.timestamp_ms)
