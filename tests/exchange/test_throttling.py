"""Throttled users of the lab's Exchange, over sockets: what hurts one hurts nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest

from apps.exchange import limits
from apps.exchange.errors import ExchangeError, ServerBusy, TooManyConnections
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Described, Endpoint
from apps.exchange.limits import LimitedServer
from apps.lab.exchange import LabExchange

AT_ONCE = 8
OTHERS = 12


@dataclass
class World:
    """One Exchange, one user in trouble, and others."""

    lab: LabExchange
    server: LimitedServer
    endpoint: Endpoint
    ews: EwsServer

    def user(self, number: int) -> Credentials:
        return Credentials("basic", f"user{number}@example.com", f"password-{number}")

    async def ask(self, number: int, deadline_s: float = 10.0) -> str:
        try:
            found: Described = await self.server.describe(
                self.endpoint, self.user(number), [], True, deadline_s
            )
        except ExchangeError as error:
            return error.code
        assert found.unread_count == number
        return "ok"

    @property
    def calls(self) -> int:
        return int(self.lab.counters()["calls"].get("GetFolder", 0))

    @property
    def limit(self) -> int:
        (host,) = self.server._hosts.values()
        return host.places.limit


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with LabExchange(max_concurrency=6) as lab:
        for number in range(OTHERS + 1):
            lab.add_mailbox(f"user{number}@example.com", f"User {number}", f"password-{number}")
            for _ in range(number):
                lab.deliver(f"user{number}@example.com", "Ben", "ben@example.com", "Hi")
        ews = EwsServer("0.1.0")
        endpoint = Endpoint(lab.url, ca_pem=lab.ca_pem, exceptions=(ip_network("127.0.0.0/8"),))
        yield World(lab, LimitedServer(ews, AT_ONCE), endpoint, ews)
        await ews.close()


VICTIM = 0
TROUBLES: list[dict[str, Any]] = [
    {"kind": "busy", "back_off_ms": 5000},
    {"kind": "busy", "back_off_ms": 0},
    {"kind": "too_many_requests", "retry_after": "seconds", "retry_after_s": 5},
    {"kind": "too_many_requests", "retry_after": "date", "retry_after_s": 5},
    {"kind": "too_many_requests"},
    {"kind": "unavailable", "retry_after": "seconds", "retry_after_s": 5},
    {"kind": "error", "code": "ErrorExceededConnectionCount"},
    {"kind": "error", "code": "ErrorTooManyObjectsOpened"},
    {"kind": "error", "code": "ErrorServerBusy", "wrapped": True},
    {"kind": "error", "code": "ErrorMailboxMoveInProgress"},
    {"kind": "error", "code": "ErrorMailboxStoreUnavailable"},
    {"kind": "hang"},
    {"kind": "slow", "delay_s": 4.0},
]


@pytest.mark.parametrize(
    "trouble", TROUBLES, ids=lambda trouble: "-".join(map(str, trouble.values()))
)
async def test_one_mailbox_in_trouble_hurts_nobody_else(
    world: World,
    trouble: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "_PAUSE_S", 0.05)
    victim = asyncio.create_task(_insist(world))
    world.lab.faults.add(seconds=60, address="user0@example.com", **trouble)
    answers: list[str] = []
    longest = 0.0
    for _ in range(6):
        began = time.monotonic()
        answers += await asyncio.gather(*(world.ask(n) for n in range(1, OTHERS + 1)))
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.1)
    victim.cancel()
    await asyncio.gather(victim, return_exceptions=True)
    assert answers == ["ok"] * len(answers)
    assert world.limit == AT_ONCE
    # Nor was it lower meanwhile.
    assert "at once at most" not in caplog.text and "left alone" not in caplog.text
    # A dozen calls take some milliseconds; on a shared machine now and then much more.
    assert longest < 3


@pytest.mark.parametrize("kind", ["busy", "too_many_requests"])
async def test_many_throttled_users_hurt_nobody_else(world: World, kind: Any) -> None:
    throttled = range(1, 9)
    for number in throttled:
        world.lab.faults.add(kind, 60, address=f"user{number}@example.com")
    assert {await world.ask(number) for number in [*throttled] * 3} == {"server_busy"}
    assert {await world.ask(number) for number in range(9, OTHERS + 1)} == {"ok"}
    assert world.limit == AT_ONCE


async def _insist(world: World) -> None:
    """The user in trouble asks and asks, in several places at once."""
    while True:
        await asyncio.gather(*(world.ask(VICTIM, 3.0) for _ in range(20)))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("kind", ["too_many_requests", "unavailable"])
async def test_retry_after_in_both_forms(world: World, kind: Any, form: Any) -> None:
    world.lab.faults.add(kind, 60, retry_after=form, retry_after_s=30, address="user1@example.com")
    with pytest.raises(ServerBusy) as caught:
        await world.server.describe(world.endpoint, world.user(1), [], True, 5)
    assert 28 <= caught.value.back_off_s <= 30
    assert caught.value.of_host is (kind == "unavailable")
    world.lab.faults.clear()
    assert await world.ask(1) == "server_busy"
    assert await world.ask(2) == "ok"
    assert world.calls == 2


async def test_a_server_that_is_busy_for_all_is_left_alone_and_called_again(world: World) -> None:
    world.lab.faults.add("unavailable", 60, retry_after="seconds", retry_after_s=1)
    assert [await world.ask(n) for n in (1, 2)] == ["server_busy"] * 2
    before = world.calls
    assert {await world.ask(n) for n in range(3, 13)} == {"server_busy"}
    assert world.calls == before
    world.lab.faults.clear()
    await asyncio.sleep(1.05)
    assert {await world.ask(n) for n in range(1, 13)} == {"ok"}


async def test_a_user_s_connections_stay_within_what_exchange_permits(world: World) -> None:
    world.lab.faults.add("slow", 60, delay_s=0.1)
    assert set(await asyncio.gather(*(world.ask(1) for _ in range(30)))) == {"ok"}
    # Without limits the lab would have refused.
    asked = (world.ews.describe(world.endpoint, world.user(1), [], True, 10) for _ in range(30))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, TooManyConnections) for answer in answers) > 0


async def test_timeouts_of_several_users_halve_the_calls_at_once(world: World) -> None:
    assert await world.ask(1) == "ok"
    world.lab.faults.add("hang", 60)
    answers = await asyncio.gather(*(world.ask(n, 2.2) for n in range(1, 5)))
    assert answers == ["unreachable"] * 4
    assert world.limit == AT_ONCE // 2
    world.lab.faults.clear()
    for _ in range(40):
        assert set(await asyncio.gather(*(world.ask(n) for n in range(1, 13)))) == {"ok"}
    assert world.limit == AT_ONCE
