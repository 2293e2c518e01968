"""What an organization group may set about subscriptions."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.tenants.inherited import og_settings


@og_settings("subscriptions", title="Email notification")
@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Times of the subscription's life; inherited down the tree unless overridden.

    With `enabled` off (email notification is not for this group) nobody may join, and those who
    have joined hear nothing. `status_frequency_minutes`: how often Exchange shows that it still
    knows us, when nothing else happens. `checkin_seconds`: how often a device checks in.
    `proof_hours`: for how long a device's own proof of the mailbox entitles it to content.
    After `asleep_hours` without a check-in a device is told nothing, after `retire_days` it is
    forgotten. Of the mails that came in a gap at most `catch_up_limit` are announced one by
    one.
    """

    enabled: bool = field(
        default=True,
        metadata={
            "choices": (False, True),
            "choice_labels": ("Off", "On"),
            "narrows": True,
            "label": "Email notification",
            "help": "Switched off, no device can join, and those that have hear nothing.",
        },
    )
    status_frequency_minutes: int = field(
        default=30,
        metadata={
            "minimum": 1,
            "maximum": 1440,
            "label": "Heartbeat",
            "help": "How often Exchange shows that it still knows a subscription when nothing else "
            "happens. After twice this silence a subscription counts as lost.",
            "unit": "minutes",
        },
    )
    checkin_seconds: int = field(
        default=3600,
        metadata={
            "minimum": 60,
            "maximum": 86400,
            "label": "Check-in",
            "help": "How often a device asks whether there is something to do for it.",
            "unit": "seconds",
        },
    )
    proof_hours: int = field(
        default=24,
        metadata={
            "minimum": 1,
            "maximum": 168,
            "label": "Proof holds for",
            "help": "A device is told sender and subject for so long after its own credentials "
            "have opened the mailbox.",
            "unit": "hours",
        },
    )
    asleep_hours: int = field(
        default=72,
        metadata={
            "minimum": 2,
            "maximum": 24 * 60,
            "label": "Asleep after",
            "help": "A device that has not checked in for so long is told nothing more.",
            "unit": "hours",
        },
    )
    retire_days: int = field(
        default=30,
        metadata={
            "minimum": 1,
            "maximum": 365,
            "label": "Forgotten after",
            "help": "A device that has not checked in for so long is forgotten, with its secrets.",
            "unit": "days",
        },
    )
    catch_up_limit: int = field(
        default=10,
        metadata={
            "minimum": 0,
            "maximum": 100,
            "label": "Caught up at most",
            "help": "After a gap so many of the mails that came in are announced one by one.",
            "unit": "mails",
        },
    )
