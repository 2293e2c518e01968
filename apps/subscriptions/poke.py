"""Wakes the workers: the joins, and the drain of the room above."""

from __future__ import annotations

from typing import Final

from apps.eventlog.poke import Poker

JOIN_TASK: Final = "subscriptions.join"
DRAIN_TASK: Final = "announce.drain"
wake_join = Poker(JOIN_TASK, queue="join")
wake_drain = Poker(DRAIN_TASK, queue="drain")
