"""Where everyone else gets the event log from."""

from __future__ import annotations

from functools import cache

from apps import clock
from apps.eventlog.interface import EventLog
from apps.eventlog.table import TableLog


@cache
def get_log() -> EventLog:
    """The event log of this process, made once and safe in threads."""
    return TableLog(life_clock=clock.time)
