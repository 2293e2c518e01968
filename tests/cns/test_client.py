"""The CNS client against a relay that answers anything. (With the real one: tests/relay.)"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from apps import request_id
from apps.cns.answer import Result
from apps.cns.channel import make_channel
from apps.cns.client import CnsClient, Push
from apps.cns.errors import CnsRefused, CnsUnavailable

CHANNEL = b"".join(make_channel("ENS"))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeRelay:
    def __init__(self) -> None:
        self.answer: Handler | None = None
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, dict(request.headers), await request.read()))
        assert self.answer is not None
        return await self.answer(request)

    def says(self, content: Any, status: int = 200, **headers: str) -> None:
        async def answer(_request: web.Request) -> web.Response:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            return web.Response(body=body, status=status, headers=headers)

        self.answer = answer


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    fake = FakeRelay()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def client(relay: FakeRelay) -> AsyncIterator[CnsClient]:
    made = CnsClient(relay.url, CHANNEL, deadline_s=1)
    yield made
    await made.close()


def push(**changes: Any) -> Push:
    fields = {
        "id": str(uuid4()),
        "app": "com.example.mail",
        "token": "ab" * 32,
        "push_type": "alert",
        "priority": 10,
        "expiration": 0,
        "collapse_id": "item",
        "payload": {"aps": {"alert": {"title": "Anna", "body": "Grüße 🎉"}}},
    }
    return Push(**fields | changes)


async def test_results_come_back_in_the_order_of_the_pushes(
    relay: FakeRelay, client: CnsClient
) -> None:
    one, two, three, four = (push() for _ in range(4))
    relay.says(
        {
            "version": 1,
            "results": [
                {"id": four.id, "status": "failed", "reason": "BadTopic"},
                {"id": three.id, "status": "retry", "reason": "Shutdown", "retry_after_s": 2.5},
                {
                    "id": two.id,
                    "status": "dead",
                    "reason": "Unregistered",
                    "dead_since": 1_700_000_000_123,
                },
                {"id": one.id, "status": "accepted"},
            ],
        }
    )
    results = await client.send("apns", [one, two, three, four])
    assert [(r.id, r.status, r.reason) for r in results] == [
        (one.id, "accepted", ""),
        (two.id, "dead", "Unregistered"),
        (three.id, "retry", "Shutdown"),
        (four.id, "failed", "BadTopic"),
    ]
    assert results[1].dead_since == datetime.fromtimestamp(1_700_000_000.123, UTC)
    assert results[2].retry_after_s == 2.5


async def test_what_goes_out(relay: FakeRelay, client: CnsClient) -> None:
    before = request_id.work_on(["0123456789ab", "not an id\r\nX: y"])
    sent = push()
    request_id._current.reset(before)
    relay.says({"version": 1, "results": [{"id": sent.id, "status": "accepted"}]})
    await client.send("apns", [sent])
    ((path, headers, body),) = relay.seen
    assert path == "/nws/notify/apns"
    assert headers["Content-Type"] == "application/json"
    assert headers["ENS-Signature"].count(".") == 2
    content = json.loads(body)
    assert content["version"] == 1
    names = [name for name in sent.__slots__ if name != "request_id"]
    assert content["notifications"] == [{name: getattr(sent, name) for name in names}]
    assert headers["ENS-Request-Id"] == "0123456789ab"


@pytest.mark.parametrize("ending", ["", "/", "/nws/notify/apns", "/nws/notify/apns/"])
async def test_the_address_may_already_name_the_endpoint(relay: FakeRelay, ending: str) -> None:
    client = CnsClient(f"{relay.url}/push{ending}", CHANNEL)
    sent = push()
    relay.says({"version": 1, "results": [{"id": sent.id, "status": "accepted"}]})
    await client.send("apns", [sent])
    await client.close()
    assert relay.seen[0][0] == "/push/nws/notify/apns"


async def test_half_a_surrogate_pair_does_not_cost_the_batch(
    relay: FakeRelay, client: CnsClient
) -> None:
    sent = push(payload={"aps": {"alert": "broken \ud83d"}})
    relay.says({"version": 1, "results": [{"id": sent.id, "status": "accepted"}]})
    await client.send("apns", [sent])
    notification = json.loads(relay.seen[0][2])["notifications"][0]
    assert notification["payload"] == {"aps": {"alert": "broken ?"}}


async def test_nothing_to_send_is_no_call(relay: FakeRelay, client: CnsClient) -> None:
    assert await client.send("apns", []) == []
    assert relay.seen == []


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"code": "certificate_revoked"}, 401, "certificate_revoked"),
        ({"code": "version_unsupported"}, 400, "version_unsupported"),
        ({"code": "two words\n"}, 400, "http_400"),
        (b"<html>", 404, "http_404"),
        ([], 403, "http_403"),
    ],
)
async def test_a_refused_call_says_why(
    relay: FakeRelay, client: CnsClient, content: Any, status: int, code: str
) -> None:
    relay.says(content, status)
    with pytest.raises(CnsRefused) as refused:
        await client.send("apns", [push()])
    assert (refused.value.code, str(refused.value)) == (code, code)


@pytest.mark.parametrize(
    ("content", "status", "code", "seconds"),
    [
        (b"", 502, "http_502", 9.0),
        ({"code": "busy"}, 429, "busy", 9.0),
        ({"code": "nonce_replayed"}, 401, "nonce_replayed", 9.0),
        (b"moved", 302, "http_302", 9.0),
        (b"<html>", 200, "answer_malformed", 2.0),
        ([], 200, "answer_malformed", 2.0),
        (b"[" * 10_000, 200, "answer_malformed", 2.0),
        ({"results": []}, 200, "answer_malformed", 2.0),
        ({"version": 1, "results": {}}, 200, "answer_malformed", 2.0),
        ({"version": 1, "results": [5]}, 200, "answer_malformed", 2.0),
        (
            {"version": 1, "results": [{"id": 5, "status": "accepted"}]},
            200,
            "answer_malformed",
            2.0,
        ),
        ({"version": 1, "results": [{"id": "x", "status": "great"}]}, 200, "answer_malformed", 2.0),
        ({"version": 1, "results": [{"id": "x", "status": []}]}, 200, "answer_malformed", 2.0),
        ({"version": 1, "results": []}, 200, "answer_incomplete", 2.0),
    ],
)
async def test_an_answer_that_is_none_means_try_again(
    relay: FakeRelay, client: CnsClient, content: Any, status: int, code: str, seconds: float
) -> None:
    relay.says(content, status, **{"Retry-After": "9"})
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert (failed.value.code, failed.value.retry_after_s) == (code, seconds)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, 2.0), ("x", 2.0), (-1, 2.0), (1e9, 3600.0), (True, 2.0), ("NaN", 2.0), (0, 0.0)],
)
async def test_odd_times_to_wait_are_bounded(
    relay: FakeRelay, client: CnsClient, given: Any, expected: float
) -> None:
    sent = push()
    result = {"id": sent.id, "status": "retry", "retry_after_s": given, "dead_since": 10**30}
    text = json.dumps({"version": 1, "results": [result]}).replace('"NaN"', "NaN")
    relay.says(text.encode())
    (found,) = await client.send("apns", [sent])
    assert (found.retry_after_s, found.dead_since) == (expected, None)


class Lines:
    """A relay that answers by lines, and may break off."""

    def __init__(self, relay: FakeRelay) -> None:
        self.go_on = asyncio.Event()
        self._relay = relay

    def says(self, *parts: Any, breaks_off: bool = False, waits: bool = False) -> None:
        """Objects are lines; bytes go out as they are, each part on its own."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            for part in parts:
                raw = part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n"
                await response.write(raw)
            if waits:
                await self.go_on.wait()
            if breaks_off:
                assert request.transport is not None
                request.transport.close()
            return response

        self._relay.answer = answer


@pytest.fixture
def lines(relay: FakeRelay) -> Lines:
    return Lines(relay)


HEAD = {"version": 1}


def accepted(sent: Push) -> dict[str, str]:
    return {"id": sent.id, "status": "accepted"}


async def test_each_result_is_heard_before_the_answer_ends(
    relay: FakeRelay, client: CnsClient, lines: Lines
) -> None:
    one, two = push(), push()
    half = json.dumps(accepted(two)).encode()[:30]
    lines.says(HEAD, accepted(one), half, breaks_off=True, waits=True)
    heard: list[str] = []
    first = asyncio.Event()

    def on_result(result: Result) -> None:
        heard.append(f"{result.id} {result.status} {result.reason}")
        first.set()

    under_way = asyncio.create_task(client.send("apns", [two, one], on_result))
    await asyncio.wait_for(first.wait(), 5)
    assert heard == [f"{one.id} accepted "]
    assert not under_way.done()
    lines.go_on.set()
    results = await under_way
    assert relay.seen[0][1]["Accept"] == "application/x-ndjson"
    assert [(r.id, r.status, r.reason, r.retry_after_s) for r in results] == [
        (two.id, "retry", "connection_lost", 2.0),
        (one.id, "accepted", "", 0.0),
    ]
    assert heard[1:] == [f"{two.id} retry connection_lost"]


async def test_a_whole_answer_by_lines(client: CnsClient, lines: Lines) -> None:
    sent = [push() for _ in range(3)]
    text = b"".join(json.dumps(each).encode() + b"\n" for each in map(accepted, sent))
    ways = [HEAD, text, {"end": True, "count": 3}], [json.dumps(HEAD).encode(), b"\n", text]
    for parts in ways:  # the second one is cut in odd places and has no last line
        lines.says(*parts)
        results = await client.send("apns", sent)
        assert [(r.id, r.status) for r in results] == [(each.id, "accepted") for each in sent]


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], "answer_incomplete"),
        ([HEAD], "answer_incomplete"),
        ([HEAD, {"end": True, "count": 5}], "answer_incomplete"),
        ([b"not JSON\n"], "answer_malformed"),
        ([{"end": True}], "answer_malformed"),
        ([HEAD, HEAD], "answer_malformed"),
        ([HEAD, b"[]\n"], "answer_malformed"),
        ([HEAD, {"id": str(uuid4()), "status": "accepted"}], "answer_malformed"),
        ([HEAD, {"end": True}, {"end": True}], "answer_malformed"),
        ([b"x" * 3000], "answer_malformed"),
        ([HEAD, b" " * 3000 + b"\n"], "answer_malformed"),
        ([HEAD] + [b"\n"] * 5, "answer_malformed"),
    ],
)
async def test_lines_that_answer_nothing(
    client: CnsClient, lines: Lines, parts: list[Any], code: str
) -> None:
    lines.says(*parts)
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert failed.value.code == code


@pytest.mark.parametrize("trouble", ["another's", "repeated", "nonsense", "endless"])
async def test_what_was_answered_before_the_nonsense_holds(
    client: CnsClient, lines: Lines, trouble: str
) -> None:
    one, two = push(), push()
    then = {
        "another's": [accepted(push())],
        "repeated": [{"id": one.id, "status": "dead"}],
        "nonsense": [b"{\n"],
        "endless": [b"x" * 100_000],
    }[trouble]
    lines.says(HEAD, accepted(one), *then, accepted(two), waits=True)
    results = await client.send("apns", [one, two])
    lines.go_on.set()
    assert [(r.status, r.reason) for r in results] == [
        ("accepted", ""),
        ("retry", "answer_malformed"),
    ]


async def test_an_answer_that_never_ends_is_left_at_the_deadline(
    client: CnsClient, lines: Lines
) -> None:
    one, two = push(), push()
    lines.says(HEAD, accepted(one), waits=True)
    results = await client.send("apns", [one, two])
    lines.go_on.set()
    assert [(r.status, r.reason) for r in results] == [
        ("accepted", ""),
        ("retry", "deadline_exceeded"),
    ]


async def test_a_flood_of_small_lines_is_left_at_its_limit(
    relay: FakeRelay, client: CnsClient
) -> None:
    """A document, not lines, larger than any answer."""
    relay.says(b" " * 1_000_000)
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert failed.value.code == "response_too_large"


@pytest.mark.parametrize("by_lines", [True, False])
async def test_another_protocol_version_is_named(
    relay: FakeRelay, client: CnsClient, lines: Lines, by_lines: bool, caplog: Any
) -> None:
    if by_lines:
        lines.says({"version": 2})
    else:
        relay.says({"version": 2, "results": []})
    with pytest.raises(CnsRefused) as refused:
        await client.send("apns", [push()])
    assert refused.value.code == "version_unsupported"
    assert "version 2, not 1" in caplog.text


async def test_an_unreachable_relay_means_try_again() -> None:
    client = CnsClient("http://127.0.0.1:1", CHANNEL)
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert failed.value.code == "connect_failed"
    assert "127.0.0.1" not in str(failed.value)
    await client.close()


async def test_a_silent_relay_is_left_at_the_deadline(relay: FakeRelay, client: CnsClient) -> None:
    async def never(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    relay.answer = never
    with pytest.raises(CnsUnavailable) as failed:
        await client.send("apns", [push()])
    assert failed.value.code == "deadline_exceeded"


def test_pushes_do_not_show_token_or_content() -> None:
    shown = repr(push())
    assert "ab" * 32 not in shown
    assert "Anna" not in shown
