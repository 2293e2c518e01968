"""A mail server that is slow, busy or away hurts only its own users."""

from __future__ import annotations

import asyncio
import time

import pytest

from apps.exchange import limits, places
from apps.exchange.errors import (
    CredentialsExpired,
    CredentialsRefused,
    ExchangeError,
    MailboxMoving,
    ServerBusy,
    TooManyConnections,
    TooManyObjects,
    Unreachable,
)
from apps.exchange.interface import Credentials, Described, Endpoint, Proof, Reach
from apps.exchange.limits import LimitedServer
from apps.wire.proxy import Proxy

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
        self.broken: set[str] = set()

    async def prove(self, endpoint: Endpoint, *_: object) -> Proof:
        if endpoint.url in self.broken:
            raise ServerBusy(60.0, of_host=True)
        return Proof("inbox")

    async def discover(self, system: Reach, *_: object) -> str:
        return "https://slow.example/EWS/Exchange.asmx"

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


def user(number: int) -> Credentials:
    return Credentials("basic", f"user{number}", "x")


async def ask(
    server: LimitedServer,
    endpoint: Endpoint = SLOW,
    deadline_s: float = 5.0,
    who: Credentials = ANNA,
) -> str:
    try:
        await server.describe(endpoint, who, [], True, deadline_s)
    except ExchangeError as error:
        return error.code
    return "ok"


async def test_calls_to_one_host_are_limited_and_the_others_go_on(
    server: LimitedServer, inner: Server
) -> None:
    inner.takes_s = 0.2
    slow = [asyncio.create_task(ask(server, who=user(n))) for n in range(9)]
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
    hold = [asyncio.create_task(ask(server, who=user(n))) for n in range(3)]
    await asyncio.sleep(0.01)
    assert await ask(server, deadline_s=0.1) == "no_place_in_time"
    await asyncio.gather(*hold)


async def test_a_throttled_account_is_left_alone_as_long_as_it_says_and_no_other(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PAUSE_S", 0.1)
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


async def test_what_was_under_way_does_not_end_a_pause(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_PART_OF_ONE_ACCOUNT", 1)
    inner.takes_s = 0.2
    earlier = asyncio.create_task(ask(server))
    await asyncio.sleep(0.01)
    inner.takes_s, inner.error = 0.0, ServerBusy(30.0)
    assert await ask(server) == "server_busy"
    inner.error = None
    assert await earlier == "ok"
    assert await ask(server) == "server_busy"
    assert inner.calls == 2


async def test_who_is_refused_again_and_again_waits_longer_each_time(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PAUSE_S", 0.02)
    inner.error = ServerBusy(0.0)
    pauses = []
    for _ in range(4):
        assert await ask(server) == "server_busy"
        with pytest.raises(ServerBusy) as caught:
            await server.describe(SLOW, ANNA, [], True, 5.0)
        pauses.append(caught.value.back_off_s)
        await asyncio.sleep(caught.value.back_off_s + 0.001)
    assert inner.calls == 4
    assert [round(pause / 0.02) for pause in pauses] == [1, 2, 4, 8]
    inner.error = None
    assert await ask(server) == "ok"
    inner.error = ServerBusy(0.0)
    assert await ask(server) == "server_busy"
    with pytest.raises(ServerBusy) as caught:
        await server.describe(SLOW, ANNA, [], True, 5.0)
    assert caught.value.back_off_s <= 0.02


@pytest.mark.parametrize(
    "error", [ServerBusy(60.0), TooManyConnections(60.0), TooManyObjects(60.0)]
)
async def test_throttled_users_never_close_the_host(
    server: LimitedServer, inner: Server, error: ServerBusy
) -> None:
    inner.error = error
    assert {await ask(server, who=user(n)) for n in range(20)} == {error.code}
    inner.error = None
    assert await ask(server, who=BEN) == "ok"


async def test_a_host_that_is_busy_for_two_is_left_alone_by_all(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PAUSE_S", 0.05)
    inner.error = ServerBusy(0.3, of_host=True)
    assert await ask(server) == "server_busy"
    # It may be what is behind this one's mailbox.
    inner.error = None
    assert await ask(server, who=BEN) == "ok"
    inner.error = ServerBusy(0.3, of_host=True)
    assert [await ask(server, who=user(n)) for n in range(2)] == ["server_busy"] * 2
    calls = inner.calls
    assert [await ask(server, who=user(n)) for n in range(2, 9)] == ["server_busy"] * 7
    assert inner.calls == calls
    await asyncio.sleep(0.31)
    # One finds out.
    inner.error, inner.takes_s = None, 0.05
    first = asyncio.create_task(ask(server, who=user(9)))
    await asyncio.sleep(0.01)
    with pytest.raises(ServerBusy) as caught:
        await server.describe(SLOW, user(10), [], True, 5.0)
    # The outcome is there soon, and so is the next try.
    assert caught.value.back_off_s == 0.05
    assert await first == "ok"
    assert await ask(server, who=BEN) == "ok"


async def test_nobody_is_left_alone_for_an_hour_because_of_one_answer(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = ServerBusy(3600.0, of_host=True)
    assert [await ask(server, who=user(n)) for n in range(2)] == ["server_busy"] * 2
    with pytest.raises(ServerBusy) as caught:
        await server.describe(SLOW, BEN, [], True, 5.0)
    assert caught.value.back_off_s <= 60.0


async def prove(server: LimitedServer, endpoint: Endpoint, who: Credentials) -> str:
    try:
        await server.prove(endpoint, who, "anna@example.com", 5.0)
    except ExchangeError as error:
        return error.code
    return "ok"


async def test_what_strangers_name_on_a_host_does_not_close_it(
    server: LimitedServer, inner: Server
) -> None:
    ews, trap = "https://mail.example/EWS/Exchange.asmx", "https://mail.example/stopped"
    inner.broken = {trap}
    for number in range(5):
        assert await prove(server, Endpoint(trap), user(number)) == "server_busy"
    assert await prove(server, Endpoint(ews), BEN) == "ok"
    assert await ask(server, Endpoint(ews), who=BEN) == "ok"
    # Whichever other path they choose next.
    calls = len(server._hosts)
    assert await prove(server, Endpoint(f"{trap}/again"), BEN) == "server_busy"
    assert len(server._hosts) == calls


async def test_one_groups_proxy_that_fails_closes_the_host_for_no_other(
    server: LimitedServer, inner: Server
) -> None:
    url = "https://mail.example/EWS/Exchange.asmx"
    inner.broken = {url}
    by_proxy = Endpoint(url, proxy=Proxy("proxy.example", 8080))
    for number in range(5):
        assert await prove(server, by_proxy, user(number)) == "server_busy"
    inner.broken = set()
    assert await prove(server, by_proxy, BEN) == "server_busy"
    assert await prove(server, Endpoint(url), BEN) == "ok"


async def test_nobody_can_list_a_host_that_is_another_groups_autodiscover(
    server: LimitedServer, inner: Server
) -> None:
    host = Endpoint("https://mail-system-7/EWS/Exchange.asmx")
    inner.broken = {host.url}
    for number in range(5):
        assert await prove(server, host, user(number)) == "server_busy"
    reach = Reach("mail-system-7", Endpoint(""), lambda url: url)
    assert await server.discover(reach, BEN, "ben@example.com", 5.0)


async def test_a_server_that_does_not_answer_is_called_by_one_at_a_time(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_OPEN_S", 0.2)
    inner.error = Unreachable()
    assert [await ask(server, who=user(n % 2)) for n in range(5)] == ["unreachable"] * 5
    assert await ask(server) == "breaker_open"
    assert inner.calls == 5
    await asyncio.sleep(0.21)
    inner.takes_s = 0.05
    answers = await asyncio.gather(*(ask(server) for _ in range(4)))
    assert sorted(answers) == ["breaker_open"] * 3 + ["unreachable"]
    await asyncio.sleep(0.21)
    inner.error = None
    assert [await ask(server) for _ in range(3)] == ["ok"] * 3


@pytest.mark.parametrize("refusal", [CredentialsRefused(), MailboxMoving(), ServerBusy(0.0)])
async def test_a_refusal_is_an_answer_too(
    server: LimitedServer,
    inner: Server,
    refusal: ExchangeError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "_OPEN_S", 0.1)
    inner.error = Unreachable()
    assert [await ask(server, who=user(n % 2)) for n in range(5)] == ["unreachable"] * 5
    await asyncio.sleep(0.11)
    inner.error = refusal
    assert await ask(server) == refusal.code
    inner.error = None
    assert await ask(server, who=BEN) == "ok"


async def test_what_was_not_sent_is_no_answer(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_OPEN_S", 0.1)
    inner.error = Unreachable()
    assert [await ask(server, who=user(n % 2)) for n in range(5)] == ["unreachable"] * 5
    await asyncio.sleep(0.11)
    inner.error = CredentialsExpired()
    assert await ask(server) == "credentials_expired"
    inner.error = None
    assert await ask(server, who=BEN) == "breaker_open"


async def test_one_mailbox_that_never_answers_closes_nothing(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = Unreachable()
    assert [await ask(server) for _ in range(20)] == ["unreachable"] * 20
    inner.error = None
    assert await ask(server, who=BEN) == "ok"
    assert server._hosts["slow.example"].places.limit == 3


async def test_a_call_that_had_no_time_left_proves_nothing(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = Unreachable()
    for number in range(9):
        assert await ask(server, deadline_s=0.5, who=user(number)) == "unreachable"
    inner.error = None
    assert await ask(server) == "ok"


async def test_refused_credentials_are_no_failure_of_the_server(
    server: LimitedServer, inner: Server
) -> None:
    inner.error = CredentialsRefused()
    assert [await ask(server) for _ in range(10)] == ["credentials_refused"] * 10
    assert inner.calls == 10


async def test_trouble_of_two_users_halves_what_the_host_gets_and_it_recovers(
    inner: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(places, "_HALVED_ONCE_S", 0.0)
    server = LimitedServer(inner, at_once=64)  # type: ignore[arg-type]
    inner.error = ServerBusy(0.0, of_host=True)
    monkeypatch.setattr(limits, "_PAUSE_S", 0.0)
    monkeypatch.setattr(limits, "_HOST_PAUSE_S", 0.0)
    found = []
    for number in range(8):
        await ask(server, who=user(number))
        found.append(server._hosts["slow.example"].places.limit)
    assert found == [64, 32, 16, 8, 4, 4, 4, 4]
    assert "slow.example is slow or busy: 4 calls at once at most" in caplog.text
    inner.error, inner.takes_s = None, 0.002
    for _ in range(40):
        await asyncio.gather(*(ask(server, who=user(n)) for n in range(100)))
    assert server._hosts["slow.example"].places.limit == 64


async def test_slow_answers_count_as_trouble(
    inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_SLOW_S", 0.05)
    server = LimitedServer(inner, at_once=64)  # type: ignore[arg-type]
    assert await ask(server) == "ok"
    inner.takes_s = 0.06
    assert await ask(server) == "ok"
    assert server._hosts["slow.example"].places.limit == 64
    assert await ask(server, who=BEN) == "ok"
    assert server._hosts["slow.example"].places.limit == 32


@pytest.mark.parametrize("url", ["https://[::1/EWS", "", "nonsense", "https://"])
async def test_an_address_that_is_none_is_the_client_s_to_refuse(
    server: LimitedServer, inner: Server, url: str
) -> None:
    assert await ask(server, Endpoint(url)) == "ok"
    assert inner.calls == 1


async def test_what_is_remembered_is_bounded(
    server: LimitedServer, inner: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ACCOUNTS", 50)
    monkeypatch.setattr(limits, "_HOSTS", 20)
    inner.error = ServerBusy(60.0)
    for number in range(200):
        await ask(server, who=user(number))
        await ask(server, Endpoint(f"https://host{number}.example/EWS"))
    assert len(server._hosts) <= 20
    assert all(len(host._pauses) <= 50 for host in server._hosts.values())
