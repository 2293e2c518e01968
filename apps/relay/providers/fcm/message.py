"""What is said to FCM: a data message to one phone, with its limits checked on the final bytes.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
"""

from __future__ import annotations

import json
from typing import Any

from apps.relay.providers import Notification

# Keys and values together: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
MAX_DATA_BYTES = 4096
_LONGEST_TTL_S = 28 * 24 * 3600


class Unsendable(Exception):
    """FCM would not take this notification; `reason` as it would be told by FCM."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_data(payload: Any) -> bool:
    """Whether a payload is `{"data": {text: text}}` without the keys FCM keeps for itself."""
    if not isinstance(payload, dict) or payload.keys() != {"data"}:
        return False
    data = payload["data"]
    return isinstance(data, dict) and all(
        isinstance(value, str) and _is_free(key) for key, value in data.items()
    )


def message(notification: Notification, now: float) -> dict[str, Any]:
    """The message's content, save for the phone it goes to.

    Raises:
        Unsendable: payload_malformed, PayloadTooLarge.
    """
    payload = json.loads(notification.payload)
    if not is_data(payload):
        raise Unsendable("payload_malformed")
    data: dict[str, str] = payload["data"]
    if sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) > MAX_DATA_BYTES:
        raise Unsendable("PayloadTooLarge")
    android: dict[str, Any] = {
        "priority": "HIGH" if notification.priority == 10 else "NORMAL",
        "ttl": f"{ttl_s(notification, now)}s",
        "restricted_package_name": notification.app,
    }
    # Of messages with a key FCM keeps four for a phone that is away, and lets through one in three
    # minutes after a burst: for badges, which replace each other, but not for announcements.
    # https://firebase.google.com/docs/cloud-messaging/customize-messages/collapsible-message-types
    # https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas
    if notification.collapse_id and notification.priority == 5:
        android["collapse_key"] = notification.collapse_id
    return {"data": data, "android": android}


def ttl_s(notification: Notification, now: float) -> int:
    """For how many seconds the push service shall keep it; 0 for now or never."""
    if notification.expiration == 0:
        return 0
    return min(max(int(notification.expiration - now), 0), _LONGEST_TTL_S)


def _is_free(key: str) -> bool:
    return key not in ("from", "message_type") and not key.startswith(("google", "gcm"))
