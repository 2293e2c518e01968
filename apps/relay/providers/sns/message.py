"""What is said to SNS: the platform's own payload, and for APNs its headers as attributes.

https://docs.aws.amazon.com/sns/latest/dg/sns-send-custom-platform-specific-payloads-mobile-devices.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html
"""

from __future__ import annotations

import json
from typing import Any

from apps.relay.providers import Notification
from apps.relay.providers.fcm.message import message, ttl_s
from apps.relay.providers.sns.account import Service


def publication(notification: Notification, service: Service, now: float) -> dict[str, Any]:
    """The parameters of Publish, save for the endpoint.

    Raises:
        apps.relay.providers.fcm.message.Unsendable: FCM would not take it.
    """
    if service == "GCM":
        content = {"fcmV1Message": {"message": message(notification, now)}}
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        attributes = {"FCM.TTL": str(ttl_s(notification, now))}
    else:
        text = notification.payload.decode()
        attributes = _headers(notification, service, now)
    return {
        "Message": json.dumps({service: text}, ensure_ascii=False),
        "MessageStructure": "json",
        "MessageAttributes": {
            f"AWS.SNS.MOBILE.{name}": {"DataType": "String", "StringValue": value}
            for name, value in attributes.items()
        },
    }


def _headers(notification: Notification, service: Service, now: float) -> dict[str, str]:
    """What would be headers at APNs. Only the time to live has a name for the sandbox."""
    found = {
        "APNS.PUSH_TYPE": notification.push_type,
        "APNS.PRIORITY": str(notification.priority),
        "APNS.TOPIC": notification.app,
        f"{service}.TTL": str(ttl_s(notification, now)),
    }
    if notification.collapse_id:
        found["APNS.COLLAPSE_ID"] = notification.collapse_id
    return found
