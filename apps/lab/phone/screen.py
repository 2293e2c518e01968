"""What the phone shows: its notifications and the badge on the mail app's icon."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from apps.lab.phone.pushes import Push


@dataclass
class Screen:
    """Fed with every push, as the phone's system does it.

    Attributes:
        notifications: newest last; a push with a known collapse id replaces the earlier one.
        badge: 0 shows none.
        announced: how often each item was announced; above 1, the user heard a mail twice.
    """

    notifications: list[Push] = field(default_factory=list)
    badge: int = 0
    announced: Counter[str] = field(default_factory=Counter)

    def take(self, push: Push) -> None:
        if push.badge is not None:
            self.badge = push.badge
        if push.kind == "announcement":
            self.announced[push.item] += 1
        if push.title or push.body:
            self.notifications = [
                shown
                for shown in self.notifications
                if not push.collapse_id or shown.collapse_id != push.collapse_id
            ]
            self.notifications.append(push)
