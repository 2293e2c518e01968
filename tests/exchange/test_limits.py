"""A mail server that is slow, busy or away hurts only its own users."""

from __future__ import annotations

import asyncio
import time

import pytest

from apps.exchange import limits
from apps.exchange.errors import CredentialsRefused, ExchangeError, ServerBusy, Unreachable
from apps.exchange.interface import Credentials, Described, Endpoint
from apps.exchange.limits import LimitedServer

ANNA = Credentials("basic", "anna", "x")
BEN = Credentials("basic", "ben", "x")
SLOW, QUICK = Endpoint("https://slow.example/EWS"), Endpoint("https://quick.example/EWS")


class Server:
    """A mail server client that does what a test says, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.under_way = 0
        self.most = 0
        self.error: ExchangeError | None = None
        self.takes_s = 0.0

    async def describe(self, endpoint: Endpoint, *_: object) -> Described:
        self.calls += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if endpoint is SLOW:
                await asyncio.sleep(self.takes_s)
                if self.error:
                    raise self.error
        finally:
            self.under_way -= 1
        return Described({}, 1)


@pytest.fixture
def inner() -> Server:
    return Server()


@pytest.fixture
def server(inner: Server) -> LimitedServer:
    return LimitedServer(inner, at_once=3)  # type: ignore[arg-type]


async def ask(server: LimitedServer, endpoint: Endpoint = SLOW, deadline_s: float = 5.0) -> str:
    try:
        await server.describe(endpoint, ANNA, [], True, deadline_s)
    except ExchangeError as error:
        return error.code
    return "ok"


async def test_calls_to_one_host_are_limited_and_the_others_go_on(
    server: LimitedServer, inner: Server
) -> None:
    inner.takes_s = 0.2
    slow = [asyncio.create_task(ask(server)) for _ in range(9)]
    await asyncio.sleep(0.01)
    assert inner.under_way == 3
    began = time.monotonic()
    assert await ask(server, QUICK) == "ok"
    assert time.monotonic() - began < 0.15
    assert await asyncio.gather(*slow) == ["ok"] * 9


async def test_waiting_for_a_place_counts_in_the_deadline(
    server: LimitedServer, inner: Server
) -> None:
    inner.takes_s = 1.0
    hold = [asyncio.create_task(ask(server)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert await ask(server, deadline_s=0.1) == "no_place_in_time"
    await asyncio.gather(*hold)


async def test_a_throttled_account_is_left_alone_as_long_as_it_says_and_no_other(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = ServerBusy(0.3)
    assert await ask(server) == "server_busy"
    inner.error = None
    with pytest.raises(ServerBusy) as caught:
        await server.describe(SLOW, ANNA, [], True, 5.0)
    assert 0 < caught.value.back_off_s <= 0.3
    assert inner.calls == 1
    assert (await server.describe(SLOW, BEN, [], True, 5.0)).unread_count == 1
    await asyncio.sleep(0.31)
    assert await ask(server) == "ok"


async def test_a_server_that_does_not_answer_is_called_by_one_at_a_time(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_OPEN_S", 0.2)
    inner.error = Unreachable()
    assert [await ask(server) for _ in range(5)] == ["unreachable"] * 5
    assert await ask(server) == "breaker_open"
    assert inner.calls == 5
    await asyncio.sleep(0.21)
    inner.takes_s = 0.05
    answers = await asyncio.gather(*(ask(server) for _ in range(4)))
    assert sorted(answers) == ["breaker_open"] * 3 + ["unreachable"]
    await asyncio.sleep(0.21)
    inner.error = None
    assert [await ask(server) for _ in range(3)] == ["ok"] * 3


async def test_refused_credentials_are_no_failure_of_the_server(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = CredentialsRefused()
    assert [await ask(server) for _ in range(10)] == ["credentials_refused"] * 10
    assert inner.calls == 10


async def test_a_server_that_is_busy_for_everyone_is_left_alone(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = ServerBusy(0.0)
    assert [await ask(server) for _ in range(5)] == ["server_busy"] * 5
    assert await ask(server) == "breaker_open"
