"""From the CNS client over real HTTP through a relay process to a pretend APNs, and back."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from uuid import uuid4

import pytest

from apps.cns.answer import Result
from apps.cns.channel import load_channel
from apps.cns.client import CnsClient
from apps.lab.apns import Fault
from tests.relay.conftest import APP, OTHER_APP, Site


async def test_a_push_reaches_the_phone_as_it_was_sent(
    site: Site, client: CnsClient, token: str
) -> None:
    push = site.push(token, priority=5, expiration=1_900_000_000, collapse_id="item-1")
    (result,) = await client.send("apns", [push])
    assert (result.id, result.status, result.reason) == (push.id, "accepted", "")
    (arrival,) = site.apns.phones.arrivals(token)
    assert arrival.apns_id == push.id
    assert arrival.push.payload == push.payload
    assert (arrival.push.topic, arrival.push.push_type) == (APP, "alert")
    assert (arrival.push.priority, arrival.push.expiration) == (5, 1_900_000_000)
    assert arrival.push.collapse_id == "item-1"


async def test_a_wake_up_and_a_badge_correction_go_through(
    site: Site, client: CnsClient, token: str
) -> None:
    wake_up = {"aps": {"content-available": 1}, "ens": {"v": 1, "kind": "wakeup"}}
    badge = {"aps": {"badge": 6}, "ens": {"v": 1, "kind": "badge"}}
    results = await client.send(
        "apns",
        [
            site.push(token, push_type="background", priority=5, collapse_id="", payload=wake_up),
            site.push(token, priority=5, collapse_id="badge", payload=badge),
        ],
    )
    assert [r.status for r in results] == ["accepted", "accepted"]
    assert site.apns.phones.screen(token).badge == 6


async def test_a_batch_is_sent_side_by_side_over_one_connection(
    site: Site, client: CnsClient, token: str
) -> None:
    await client.send("apns", [site.push(token)])
    before = site.apns.connections_opened
    site.apns.faults.order(Fault(times=100, delay_s=0.5))
    pushes = [site.push(token) for _ in range(100)]
    began = time.monotonic()
    results = await client.send("apns", pushes)
    # One after the other it would be 50 s.
    assert time.monotonic() - began < 5
    assert [r.id for r in results] == [p.id for p in pushes]
    assert {r.status for r in results} == {"accepted"}
    assert site.apns.connections_opened == before
    assert len(site.apns.phones.arrivals(token)) == 101


async def test_the_largest_batch_goes_through(site: Site, client: CnsClient, token: str) -> None:
    payload = {"aps": {"alert": "ü" * 2000}}
    results = await client.send("apns", [site.push(token, payload=payload) for _ in range(500)])
    assert {r.status for r in results} == {"accepted"}
    with pytest.raises(ValueError, match="too many"):
        await client.send("apns", [site.push(token)] * 501)


async def test_every_notification_has_a_result_of_its_own(
    site: Site, client: CnsClient, token: str
) -> None:
    gone, foreign = site.apns.register(APP), site.apns.register(OTHER_APP)
    before = int(time.time() * 1000)
    site.apns.unregister(gone)
    results = await client.send(
        "apns",
        [
            site.push(token),
            site.push(gone),
            site.push("ab" * 32),
            site.push(foreign),
            site.push(token, app="com.nobody.mail"),
            site.push(token, app=OTHER_APP),
            site.push(token, payload={"aps": {"alert": "x" * 4096}}),
            site.push("not-hex"),
            site.push(token, push_type="loud"),
            site.push(token, push_type="background"),
            site.push(token, priority=7),
            site.push(token, expiration=-1),
            site.push(token, collapse_id="a\r\nb"),
            site.push(token, collapse_id="c" * 65),
            site.push(token, payload={"no": "aps"}),
            site.push(token, push_type="background", priority=5),
        ],
    )
    assert [(r.status, r.reason) for r in results] == [
        ("accepted", ""),
        ("dead", "Unregistered"),
        ("dead", "BadDeviceToken"),
        ("dead", "DeviceTokenNotForTopic"),
        ("failed", "app_not_allowed"),
        ("failed", "app_not_allowed"),
        ("failed", "PayloadTooLarge"),
        ("failed", "token_malformed"),
        ("failed", "push_type_malformed"),
        ("failed", "priority_malformed"),
        ("failed", "priority_malformed"),
        ("failed", "expiration_malformed"),
        ("failed", "collapse_id_malformed"),
        ("failed", "collapse_id_malformed"),
        ("failed", "payload_malformed"),
        ("failed", "InvalidPushType"),
    ]
    since = results[1].dead_since
    assert since is not None and before <= since.timestamp() * 1000 <= time.time() * 1000
    assert results[2].dead_since is None
    assert len(site.apns.phones.arrivals(token)) == 1


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [("TooManyRequests", 7.0), ("InternalServerError", 7.0), ("ServiceUnavailable", 7.0)],
)
async def test_what_apns_puts_off_is_to_be_tried_again(
    site: Site, client: CnsClient, token: str, reason: str, seconds: float
) -> None:
    site.apns.faults.order(Fault("refuse", reason=reason, retry_after_s=7))
    results = await client.send("apns", [site.push(token), site.push(token)])
    put_off = [r for r in results if r.status == "retry"]
    assert [(r.reason, r.retry_after_s) for r in put_off] == [(reason, seconds)]
    assert len(site.apns.phones.arrivals(token)) == 1


@pytest.mark.parametrize("reason", ["InvalidProviderToken", "TopicDisallowed", "BadTopic"])
async def test_what_is_ours_to_fix_is_not_tried_again(
    site: Site, client: CnsClient, token: str, reason: str
) -> None:
    site.apns.faults.order(Fault("refuse", reason=reason))
    (result,) = await client.send("apns", [site.push(token)])
    assert (result.status, result.reason) == ("failed", reason)


@pytest.mark.parametrize("action", ["drop", "goaway"])
async def test_a_broken_connection_loses_no_notification(
    site: Site, client: CnsClient, token: str, action: str
) -> None:
    await client.send("apns", [site.push(token)])
    site.apns.faults.order(Fault(action, times=5))
    waiting = {p.id: p for p in (site.push(token) for _ in range(30))}
    expected = {p.id for p in waiting.values()}
    for _ in range(10):
        results = await client.send("apns", list(waiting.values()))
        assert {r.status for r in results} <= {"accepted", "retry"}
        for result in results:
            if result.status == "accepted":
                del waiting[result.id]
        if not waiting:
            break
    assert not waiting
    assert expected <= {a.apns_id for a in site.apns.phones.arrivals(token)}


async def test_one_that_hangs_is_given_up_and_the_others_are_answered(
    site: Site, client: CnsClient, token: str
) -> None:
    site.apns.faults.order(Fault("hang"))
    results = await client.send("apns", [site.push(token) for _ in range(10)])
    # The one that hangs is sent again where its connection ends before its deadline does.
    assert sorted(r.status for r in results)[:9] == ["accepted"] * 9


async def test_each_answer_comes_when_apns_gives_it(
    site: Site, client: CnsClient, token: str
) -> None:
    """One that APNs sits on keeps no other's result waiting."""
    slow = site.apns.register(APP)
    site.apns.faults.order(Fault(token=slow, delay_s=3))
    began = time.monotonic()
    heard: dict[str, float] = {}
    pushes = [site.push(slow), *(site.push(token) for _ in range(20))]
    results = await client.send(
        "apns", pushes, lambda result: heard.setdefault(result.id, time.monotonic() - began)
    )
    assert {r.status for r in results} == {"accepted"}
    assert heard.pop(pushes[0].id) >= 3
    assert max(heard.values()) < 2


async def test_calls_side_by_side(site: Site, client: CnsClient, token: str) -> None:
    answers = await asyncio.gather(
        *(client.send("apns", [site.push(token) for _ in range(5)]) for _ in range(20))
    )
    assert {r.status for results in answers for r in results} == {"accepted"}
    assert len(site.apns.phones.arrivals(token)) == 100


async def test_of_a_relay_killed_in_the_middle_only_the_unanswered_is_repeated(
    site: Site, client: CnsClient, token: str
) -> None:
    slow = site.apns.register(APP)
    site.apns.faults.order(Fault(token=slow, times=10, delay_s=3))
    pushes = [site.push(token if number % 2 else slow) for number in range(20)]
    answered = asyncio.Event()
    heard: list[str] = []

    def on_result(result: Result) -> None:
        heard.append(result.id)
        if len(heard) == 10:
            answered.set()

    under_way = asyncio.create_task(client.send("apns", pushes, on_result))
    await asyncio.wait_for(answered.wait(), 2.5)
    site.process.kill()
    results = await under_way
    found = [(r.status, r.reason) for r in results]
    assert found == [("retry", "connection_lost"), ("accepted", "")] * 10
    site.process = site.relay.serve(site.relay.port)
    again = [push for push, result in zip(pushes, results, strict=True) if result.status == "retry"]
    assert {r.status for r in await client.send("apns", again)} == {"accepted"}
    arrivals = site.apns.phones.arrivals(token)
    assert sorted(a.apns_id for a in arrivals) == sorted(pushes[n].id for n in range(1, 20, 2))
    assert len(site.apns.phones.screen(slow).shown) == 10


async def test_a_mixed_up_environment_retires_no_device(site: Site, client: CnsClient) -> None:
    app = f"com.example.app{uuid4().hex[:8]}"
    key = site.apns.new_key("TEAM123456", [app])
    file = site.relay.home / f"{app}.p8"
    file.write_text(key.p8)
    site.relay.manage(
        *("relay_push_app", "add", "--app", app, "--key-file", file, "--share", "ours"),
        *("--key-id", key.key_id, "--team-id", key.team_id),
    )
    (result,) = await client.send("apns", [site.push("cd" * 32, app=app)])
    assert (result.status, result.reason) == ("failed", "BadDeviceToken")
    good = site.apns.register(app)
    results = await client.send("apns", [site.push(good, app=app), site.push("cd" * 32, app=app)])
    assert [r.status for r in results] == ["accepted", "dead"]
    (result,) = await client.send("apns", [site.push("cd" * 32, app=app)])
    assert result.status == "dead"


async def test_no_token_and_no_content_stay_behind(
    site: Site, client: CnsClient, token: str
) -> None:
    marked = {"aps": {"alert": {"title": "CanarySender", "body": "CanarySubject"}}}
    gone = site.apns.register(APP)
    site.apns.unregister(gone)
    site.apns.faults.order(Fault("drop", token=token))
    await client.send(
        "apns",
        [
            site.push(token, payload=marked),
            site.push(gone, payload=marked),
            site.push(token, payload=marked, app="com.nobody.mail"),
            site.push("Canary", payload=marked),
        ],
    )
    kept = b"".join(
        file.read_bytes()
        for file in site.relay.home.iterdir()
        if file.suffix == ".log" or ".sqlite3" in file.name
    )
    assert b"POST /nws/notify/apns" in kept
    for mark in (b"Canary", token.encode(), gone.encode(), bytes.fromhex(token)):
        assert mark not in kept
    key = (site.relay.home / "ours.p8").read_text().splitlines()[1].encode()
    assert key not in kept


def signed(site: Site, body: bytes, **headers: str) -> dict[str, str]:
    channel = load_channel(site.channel)
    signature = channel.sign(site.relay.audience, "POST", "/nws/notify/apns", body, time.time())
    return {"Content-Type": "application/json", "ENS-Signature": signature, **headers}


def one(site: Site, token: str, version: int = 1) -> tuple[str, bytes]:
    push = site.push(token)
    notification = {name: getattr(push, name) for name in push.__slots__}
    return push.id, json.dumps({"version": version, "notifications": [notification]}).encode()


def test_a_caller_of_an_older_release_is_answered_in_one_document(site: Site, token: str) -> None:
    """It does not say that it accepts lines."""
    name, body = one(site, token)
    assert site.process.post(body, signed(site, body, Accept="*/*")) == (
        200,
        {"version": 1, "results": [{"id": name, "status": "accepted"}]},
    )


def test_the_answer_by_lines(site: Site, token: str) -> None:
    """What a client in another language sees."""
    name, body = one(site, token)
    connection = http.client.HTTPConnection("127.0.0.1", site.process.port, timeout=20)
    headers = signed(site, body, Accept="application/x-ndjson")
    connection.request("POST", "/nws/notify/apns", body, headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert [json.loads(line) for line in answer.read().splitlines()] == [
        {"version": 1},
        {"id": name, "status": "accepted"},
        {"end": True, "count": 1},
    ]
    connection.close()


def test_a_caller_in_another_protocol_version_is_named(site: Site, token: str) -> None:
    _, body = one(site, token, version=7)
    status, answer = site.process.post(body, signed(site, body))
    assert (status, answer["code"], answer["versions"]) == (400, "version_unsupported", [1])
    assert "protocol version 1, the caller 7" in answer["detail"]
    assert "version_unsupported this relay speaks" in site.process.log.read_text()
