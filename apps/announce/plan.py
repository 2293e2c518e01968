"""From a mailbox's events to what has to be fetched and told. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from apps.exchange.ews.notification import Event
from apps.exchange.interface import Item

# What is created in or moved into the Inbox is news only if it was received this shortly before:
# a mail released from quarantine is, one that somebody tidies back is not.
FRESH: Final = timedelta(minutes=15)
_CHANGES_COUNT: Final = frozenset({"NewMail", "Created", "Deleted", "Moved"})
_COUNT_MAY_CHANGE: Final = _CHANGES_COUNT | {"Modified", "Copied"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a merged batch of one mailbox's events asks for.

    `delivered` are ItemIds that Exchange called new mail; `appeared` came into the Inbox in
    another way, with the time of that. `unread_count` is the newest one an event carried.
    """

    delivered: tuple[str, ...]
    appeared: dict[str, datetime | None]
    unread_count: int | None
    badge_may_change: bool
    catch_up_since: datetime | None

    @property
    def item_ids(self) -> list[str]:
        """Everything whose details are needed, in the order of arrival, each once."""
        return list(dict.fromkeys([*self.delivered, *self.appeared]))

    @property
    def empty(self) -> bool:
        """Nothing to tell anyone."""
        return not (self.item_ids or self.badge_may_change or self.catch_up_since)


def plan(
    events: Iterable[Event], *, counts_are_fresh: bool, catch_up_since: datetime | None = None
) -> Plan:
    """Merge events, oldest first.

    With `counts_are_fresh` off (a retry) the unread counts in the events are not believed: a late
    retry of a badge must not overwrite a newer one.
    """
    delivered: list[str] = []
    appeared: dict[str, datetime | None] = {}
    unread_count: int | None = None
    badge = False
    for event in events:
        badge = badge or event.kind in _COUNT_MAY_CHANGE
        if event.kind in _CHANGES_COUNT:
            unread_count = None  # older than this event; the folder's own event follows
        if event.unread_count is not None and counts_are_fresh:
            unread_count = event.unread_count
        if not event.item_id:
            continue
        if event.kind == "NewMail":
            delivered.append(event.item_id)
        elif event.kind in ("Created", "Moved"):
            appeared[event.item_id] = event.timestamp
        elif event.kind == "Deleted":
            delivered = [item_id for item_id in delivered if item_id != event.item_id]
            appeared.pop(event.item_id, None)
    return Plan(
        delivered=tuple(dict.fromkeys(delivered)),
        appeared={key: when for key, when in appeared.items() if key not in delivered},
        unread_count=unread_count,
        badge_may_change=badge,
        catch_up_since=catch_up_since,
    )


def is_news(plan: Plan, item: Item, *, in_inbox: bool) -> bool:
    """Whether a fetched item is to be announced: unread, still in the Inbox, and fresh."""
    if item.is_read or not in_inbox:
        return False
    if item.item_id in plan.delivered:
        return True
    appeared_at = plan.appeared.get(item.item_id)
    if item.received_at is None or appeared_at is None:
        return False
    return appeared_at - item.received_at <= FRESH
