"""Which log a setting chooses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from apps.eventlog.connection import LogUrlInvalid
from apps.eventlog.factory import get_log
from apps.eventlog.interface import NewEntry
from apps.eventlog.streams import RedisLog
from apps.eventlog.table import TableLog
from tests.redis import RedisServer


@pytest.fixture
def chosen(settings: Any) -> Any:
    """A function that opens the log of a URL as a process of its own would."""

    def choose(url: str, replicas: int = 0) -> Any:
        new = {"event_log_url": SecretStr(url), "event_log_wait_replicas": replicas}
        settings.ENS = settings.ENS.model_copy(update=new)
        return get_log.__wrapped__()

    return choose


def test_the_table_is_the_default(chosen: Any) -> None:
    assert isinstance(chosen(""), TableLog)


def test_a_redis_is_chosen_by_its_url(chosen: Any, redis_server: RedisServer) -> None:
    log = chosen(redis_server.url)
    assert isinstance(log, RedisLog)
    assert log.append(NewEntry("factory", "a", b"x")) is True
    (entry,) = log.claim("factory", "w", 1, 30)
    log.acknowledge([entry.id])
    log.close()


def test_a_url_of_another_kind_is_refused(chosen: Any) -> None:
    with pytest.raises(LogUrlInvalid):
        chosen("kafka://host")
