"""What an organization group may set about subscriptions."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.tenants.inherited import og_settings


@og_settings("subscriptions")
@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Times of the subscription's life; inherited down the tree unless overridden."""

    status_frequency_minutes: int = field(
        default=30,
        metadata={"min": 1, "max": 1440, "help": "How often Exchange shows that it still knows us"},
    )
    checkin_seconds: int = field(
        default=3600, metadata={"min": 60, "max": 86400, "help": "How often a device checks in"}
    )
    proof_hours: int = field(
        default=24,
        metadata={"min": 1, "max": 168, "help": "How long a device's own proof is good for"},
    )
