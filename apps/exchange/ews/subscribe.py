"""Subscribe, push: https://learn.microsoft.com/exchange/client-developer/web-service-reference/subscribe-operation"""

from __future__ import annotations

from apps.exchange.ews import soap
from apps.exchange.interface import Joined

_EVENTS = ("NewMailEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent")
_EVENT_TYPES = "".join(f"<t:EventType>{event}</t:EventType>" for event in _EVENTS)


def request(callback_url: str, status_frequency_minutes: int) -> bytes:
    """Subscribe to the caller's Inbox.

    Args:
        callback_url: the webhook; Exchange refuses more than 2,082 characters.
        status_frequency_minutes: 1 to 1440; how often Exchange says that nothing happened.

    Raises:
        ValueError: the frequency is out of range.
    """
    if not 1 <= status_frequency_minutes <= 1440:
        raise ValueError("status frequency must be 1 to 1440 minutes")
    return soap.envelope(
        "<m:Subscribe><m:PushSubscriptionRequest>"
        f"<t:FolderIds>{soap.INBOX}</t:FolderIds><t:EventTypes>{_EVENT_TYPES}</t:EventTypes>"
        f"<t:StatusFrequency>{status_frequency_minutes}</t:StatusFrequency>"
        f"<t:URL>{soap.text(callback_url)}</t:URL>"
        "</m:PushSubscriptionRequest></m:Subscribe>"
    )


def parse(raw: bytes) -> Joined:
    """Read the answer.

    Raises:
        ExchangeError: refused, or not an answer to Subscribe.
    """
    message = soap.checked(soap.response_messages(raw, "Subscribe")[0])
    return Joined(
        soap.required(message, f"{soap.MESSAGES}SubscriptionId"),
        soap.required(message, f"{soap.MESSAGES}Watermark"),
    )
