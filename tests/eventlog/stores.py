"""What keeps an event log in a test, told to other processes as a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps.eventlog.interface import EventLog
from apps.eventlog.streams import RedisLog
from apps.eventlog.table import TableLog
from tests.eventlog import databases

REDIS = "redis"


def redis_store(url: str, namespace: str, wait_replicas: int = 0) -> dict[str, Any]:
    """A log of its own in a Redis."""
    return {"ENGINE": REDIS, "URL": url, "NAMESPACE": namespace, "WAIT": wait_replicas}


def open_log(store: dict[str, Any], clock: Callable[[], float] | None = None) -> EventLog:
    """A log on what keeps it, as a process of its own would have it; real clocks by default."""
    if store["ENGINE"] == REDIS:
        more = {"life_clock": clock} if clock else {}
        return RedisLog(store["URL"], store["WAIT"], clock, namespace=store["NAMESPACE"], **more)
    databases.register("log", store)
    return TableLog("log", clock, clock) if clock else TableLog("log")
