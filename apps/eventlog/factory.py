"""Where everyone else gets the event log from."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from apps import clock
from apps.eventlog.interface import EventLog
from apps.eventlog.streams import RedisLog
from apps.eventlog.table import TableLog


@cache
def get_log() -> EventLog:
    """The event log of this process, made once and safe in threads.

    Raises:
        LogUrlInvalid: ENS_EVENT_LOG_URL can't be used.
    """
    url = settings.ENS.event_log_url.get_secret_value()
    if not url:
        return TableLog(life_clock=clock.time)
    return RedisLog(url, settings.ENS.event_log_wait_replicas, life_clock=clock.time)
