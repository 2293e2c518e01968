"""The pretend APNs answers as Apple documents it. Spoken to with libcurl, not with h2."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pycurl
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from apps.lab.apns import Fault, LabApns, ProviderKey
from apps.lab.ca import LabCa

TOPIC = "com.example.mail"
TEAM = "TEAM123456"
ALERT = {"aps": {"alert": {"title": "Anna", "body": "Hello"}, "badge": 1}}
WAKE_UP = {"aps": {"content-available": 1}}


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def apns(tmp_path: Path, clock: Clock) -> AsyncIterator[LabApns]:
    server = LabApns(LabCa(tmp_path), clock=clock)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def key(apns: LabApns) -> ProviderKey:
    return apns.new_key(TEAM, [TOPIC, "com.example.other"])


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(
    key: ProviderKey, *, iat: Any = None, header: dict | None = None, claims: dict | None = None
) -> str:
    head = {"alg": "ES256", "kid": key.key_id} | (header or {})
    body = {"iss": key.team_id, "iat": int(time.time()) if iat is None else iat} | (claims or {})
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}"
    private = serialization.load_pem_private_key(key.p8.encode(), None)
    r, s = decode_dss_signature(private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64(r.to_bytes(32) + s.to_bytes(32))}"


class Provider:
    """Pushes over one libcurl handle, thus over one connection while that lasts."""

    def __init__(self, apns: LabApns, key: ProviderKey) -> None:
        self.apns = apns
        self.authorization = f"bearer {jwt(key)}"
        self.curl = pycurl.Curl()

    def push_now(
        self,
        token: str,
        payload: Any = ALERT,
        *,
        method: str = "POST",
        path: str = "",
        **headers: Any,
    ) -> tuple[int, dict, dict]:
        """Answers (status, headers, body). A header given as None is left out."""
        given = {
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
            "authorization": self.authorization,
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines: dict[str, str] = {}
        body: list[bytes] = []

        def on_header(line: bytes) -> None:
            name, colon, value = line.decode().partition(":")
            if colon:
                lines[name.lower()] = value.strip()

        curl = self.curl
        curl.reset()
        curl.setopt(pycurl.URL, self.apns.url + (path or f"/3/device/{token}"))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.CAINFO_BLOB, self.apns.ca_pem.encode())
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TIMEOUT, 10)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        curl.setopt(pycurl.POSTFIELDS, data)
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        curl.setopt(
            pycurl.HTTPHEADER,
            ["Content-Type:", "Accept:"]
            + [f"{name}: {value}" for name, value in given.items() if value is not None],
        )
        curl.setopt(pycurl.HEADERFUNCTION, on_header)
        curl.setopt(pycurl.WRITEFUNCTION, body.append)
        curl.perform()
        assert curl.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0
        text = b"".join(body)
        return curl.getinfo(pycurl.RESPONSE_CODE), lines, json.loads(text) if text else {}

    async def push(self, *args: Any, **kwargs: Any) -> tuple[int, dict, dict]:
        return await asyncio.to_thread(self.push_now, *args, **kwargs)


@pytest.fixture
def provider(apns: LabApns, key: ProviderKey) -> Provider:
    return Provider(apns, key)


@pytest.fixture
def token(apns: LabApns) -> str:
    return apns.register(TOPIC)


async def test_a_good_push_arrives_and_its_id_is_echoed(
    apns: LabApns, provider: Provider, token: str
) -> None:
    given = str(uuid4())
    status, headers, body = await provider.push(
        token, apns_id=given, apns_priority="5", apns_expiration="1900000000", apns_collapse_id="x"
    )
    assert (status, headers["apns-id"], body) == (200, given, {})
    (arrival,) = apns.phones.arrivals(token)
    assert arrival.apns_id == given
    assert arrival.push.payload == ALERT
    assert (arrival.push.priority, arrival.push.expiration) == (5, 1900000000)
    assert arrival.push.collapse_id == "x"


async def test_without_an_id_a_fresh_one_is_made(provider: Provider, token: str) -> None:
    ids = {(await provider.push(token))[1]["apns-id"] for _ in range(2)}
    assert len(ids) == 2


def wrong_alert(**aps: Any) -> dict:
    return {"aps": aps}


FULL = {"aps": {"alert": "a" * (4096 - len('{"aps": {"alert": ""}}'))}}


@pytest.mark.parametrize(
    ("expected", "payload", "headers"),
    [
        ((400, "MissingTopic"), ALERT, {"apns_topic": None}),
        ((400, "BadTopic"), ALERT, {"apns_topic": "not a topic"}),
        ((400, "TopicDisallowed"), ALERT, {"apns_topic": "com.stranger.mail"}),
        ((400, "DeviceTokenNotForTopic"), ALERT, {"apns_topic": "com.example.other"}),
        ((400, "InvalidPushType"), ALERT, {"apns_push_type": None}),
        ((400, "InvalidPushType"), ALERT, {"apns_push_type": "loud"}),
        ((400, "InvalidPushType"), WAKE_UP, {}),
        ((400, "InvalidPushType"), wrong_alert(badge="7"), {}),
        ((400, "InvalidPushType"), wrong_alert(badge=True), {}),
        ((400, "BadPriority"), ALERT, {"apns_priority": "7"}),
        ((400, "BadPriority"), WAKE_UP, {"apns_push_type": "background"}),
        ((400, "BadExpirationDate"), ALERT, {"apns_expiration": "tomorrow"}),
        ((400, "BadExpirationDate"), ALERT, {"apns_expiration": "-1"}),
        ((400, "BadMessageId"), ALERT, {"apns_id": "no-uuid"}),
        ((400, "BadCollapseId"), ALERT, {"apns_collapse_id": "c" * 65}),
        ((400, "PayloadEmpty"), b"", {}),
        ((400, "PayloadEmpty"), b"{", {}),
        ((400, "PayloadEmpty"), b"[]", {}),
        ((400, "PayloadEmpty"), b"[" * 4000, {}),
        ((400, "PayloadEmpty"), {"other": 1}, {}),
        ((413, "PayloadTooLarge"), FULL | {"a": 1}, {}),
        ((413, "PayloadTooLarge"), b"x" * 200_000, {}),
        ((403, "MissingProviderToken"), ALERT, {"authorization": None}),
        ((403, "MissingProviderToken"), ALERT, {"authorization": "basic abc"}),
        ((403, "InvalidProviderToken"), ALERT, {"authorization": "bearer a.b.c"}),
        ((405, "MethodNotAllowed"), ALERT, {"method": "PUT"}),
        ((404, "BadPath"), ALERT, {"path": "/4/device/abc"}),
        ((400, "MissingDeviceToken"), ALERT, {"path": "/3/device/"}),
        ((400, "BadDeviceToken"), ALERT, {"path": "/3/device/xyz"}),
        ((400, "BadDeviceToken"), ALERT, {"path": f"/3/device/{'ab' * 31}"}),
        ((400, "BadDeviceToken"), ALERT, {"path": f"/3/device/{'ab' * 32}"}),
    ],
)
async def test_what_apple_refuses_is_refused(
    apns: LabApns, provider: Provider, token: str, expected: tuple, payload: Any, headers: dict
) -> None:
    status, answered, body = await provider.push(token, payload, **headers)
    assert (status, body["reason"]) == expected
    assert answered["apns-id"]
    assert apns.phones.arrivals(token) == []
    assert apns.answers == {expected: 1}


@pytest.mark.parametrize(
    "aps",
    [
        {"content-available": 1, "alert": "x"},
        {"content-available": 1, "badge": 1},
        {"content-available": 1, "sound": "default"},
        {"content-available": 0},
        {"category": "x"},
    ],
)
async def test_a_background_push_carries_content_available_and_nothing_to_see(
    provider: Provider, token: str, aps: dict
) -> None:
    headers = {"apns_push_type": "background", "apns_priority": "5"}
    status, _, body = await provider.push(token, {"aps": aps}, **headers)
    assert (status, body["reason"]) == (400, "InvalidPushType")
    assert (await provider.push(token, WAKE_UP, **headers))[0] == 200


async def test_limits_are_taken_to_the_last_byte(provider: Provider, token: str) -> None:
    assert len(json.dumps(FULL)) == 4096
    assert (await provider.push(token, FULL, apns_collapse_id="c" * 64))[0] == 200


async def test_a_repeated_header_is_refused(provider: Provider, token: str) -> None:
    status, _, body = await provider.push(token, apns_topic=f"{TOPIC}\r\napns-topic: {TOPIC}")
    assert (status, body["reason"]) == (400, "DuplicateHeaders")


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("InvalidProviderToken", {"iat": int(time.time()) + 600}),
        ("InvalidProviderToken", {"iat": "now"}),
        ("InvalidProviderToken", {"header": {"alg": "none"}}),
        ("InvalidProviderToken", {"header": {"alg": "HS256"}}),
        ("InvalidProviderToken", {"header": {"kid": "UNKNOWN123"}}),
        ("InvalidProviderToken", {"claims": {"iss": "OTHERTEAM1"}}),
        ("ExpiredProviderToken", {"iat": int(time.time()) - 3700}),
    ],
)
async def test_provider_tokens_are_checked(
    provider: Provider, token: str, key: ProviderKey, reason: str, changes: dict
) -> None:
    status, _, body = await provider.push(token, authorization=f"bearer {jwt(key, **changes)}")
    assert (status, body["reason"]) == (403, reason)


async def test_a_token_signed_with_another_key_is_refused(
    apns: LabApns, provider: Provider, token: str, key: ProviderKey
) -> None:
    forged = ProviderKey(key.key_id, key.team_id, apns.new_key(TEAM, [TOPIC]).p8)
    status, _, body = await provider.push(token, authorization=f"bearer {jwt(forged)}")
    assert (status, body["reason"]) == (403, "InvalidProviderToken")


async def test_a_token_expires_while_it_is_used(
    provider: Provider, token: str, clock: Clock
) -> None:
    assert (await provider.push(token))[0] == 200
    clock.offset = 3500
    assert (await provider.push(token))[0] == 200
    clock.offset = 3700
    assert (await provider.push(token))[2]["reason"] == "ExpiredProviderToken"


async def test_a_token_may_be_renewed_after_twenty_minutes_not_before(
    provider: Provider, token: str, key: ProviderKey, clock: Clock
) -> None:
    now = int(time.time())
    first, early, late = (f"bearer {jwt(key, iat=now + after)}" for after in (0, 1100, 1300))
    assert (await provider.push(token, authorization=first))[0] == 200
    clock.offset = 1100
    status, _, body = await provider.push(token, authorization=early)
    assert (status, body["reason"]) == (429, "TooManyProviderTokenUpdates")
    clock.offset = 1300
    assert (await provider.push(token, authorization=late))[0] == 200


async def test_a_removed_app_is_answered_410_with_the_time(
    apns: LabApns, provider: Provider, token: str
) -> None:
    before = int(time.time() * 1000)
    apns.unregister(token)
    status, _, body = await provider.push(token)
    assert (status, body["reason"]) == (410, "Unregistered")
    assert before <= body["timestamp"] <= int(time.time() * 1000)
    apns.register(TOPIC, token)
    assert (await provider.push(token))[0] == 200


async def test_a_collapse_id_replaces_on_the_screen_and_every_arrival_counts(
    apns: LabApns, provider: Provider, token: str
) -> None:
    for title, collapse_id in [("one", "a"), ("two", "b"), ("three", "a"), ("four", None)]:
        await provider.push(token, {"aps": {"alert": title}}, apns_collapse_id=collapse_id)
    await provider.push(token, {"aps": {"badge": 6}}, apns_collapse_id="badge")
    screen = apns.phones.screen(token)
    assert [a.push.payload["aps"]["alert"] for a in screen.shown] == ["two", "three", "four"]
    assert screen.badge == 6
    assert [a.number for a in apns.phones.arrivals(token)] == [1, 2, 3, 4, 5]


async def test_waiting_ends_with_the_next_arrival_or_with_its_time(
    apns: LabApns, provider: Provider, token: str
) -> None:
    assert await apns.phones.wait(token, 0, 0.05) == []
    waiting = asyncio.create_task(apns.phones.wait(token, 0, 10))
    await provider.push(token)
    assert [a.number for a in await waiting] == [1]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
        ("Shutdown", 503),
    ],
)
async def test_a_refusal_can_be_ordered(
    apns: LabApns, provider: Provider, token: str, reason: str, status: int
) -> None:
    apns.faults.order(Fault("refuse", reason=reason, retry_after_s=3))
    answered, headers, body = await provider.push(token)
    assert (answered, body["reason"], headers["retry-after"]) == (status, reason, "3")
    assert (await provider.push(token))[0] == 200
    assert len(apns.phones.arrivals(token)) == 1


async def test_a_fault_can_be_kept_for_one_token(
    apns: LabApns, provider: Provider, token: str
) -> None:
    apns.faults.order(Fault("refuse", reason="InternalServerError", token=apns.register(TOPIC)))
    assert (await provider.push(token))[0] == 200


async def test_a_dropped_connection_gives_no_answer(
    apns: LabApns, provider: Provider, token: str
) -> None:
    # On a new connection, since libcurl may replace a used one by itself and send again.
    apns.faults.order(Fault("deliver_and_drop"))
    with pytest.raises(pycurl.error):
        await provider.push(token)
    assert len(apns.phones.arrivals(token)) == 1
    assert (await provider.push(token))[0] == 200
    assert apns.connections_opened == 2


async def test_a_stream_above_a_goaway_is_not_delivered(
    apns: LabApns, provider: Provider, token: str
) -> None:
    await provider.push(token)
    apns.faults.order(Fault("goaway"))
    try:
        status = (await provider.push(token))[0]
    except pycurl.error:
        status = 0
    # Delivered once if libcurl sent it again by itself, else not at all.
    assert len(apns.phones.arrivals(token)) == (2 if status == 200 else 1)
    assert (await provider.push(token))[0] == 200
    assert apns.connections_opened == 2


async def test_a_fault_can_last_for_some_time(
    apns: LabApns, provider: Provider, token: str
) -> None:
    apns.faults.order(Fault("refuse", reason="ServiceUnavailable", seconds=0.3))
    for _ in range(3):
        assert (await provider.push(token))[0] == 503
    await asyncio.sleep(0.3)
    assert (await provider.push(token))[0] == 200
    assert len(apns.phones.arrivals(token)) == 1


async def test_one_stream_tells_the_pushes_of_all_phones(
    apns: LabApns, provider: Provider, token: str
) -> None:
    other = apns.register(TOPIC)
    await provider.push(token)
    found = []
    async with (
        aiohttp.ClientSession(apns.control_url) as control,
        control.get("/stream") as stream,
    ):
        await provider.push(other)
        async with asyncio.timeout(5):
            while len(found) < 2:
                line = await stream.content.readline()
                if line.startswith(b"data: "):
                    found.append(json.loads(line.removeprefix(b"data: ")))
    assert [push["token"] for push in found] == [token, other]
    assert [push["number"] for push in found] == [1, 1]


async def test_answers_can_be_slow(apns: LabApns, provider: Provider, token: str) -> None:
    apns.faults.order(Fault(delay_s=0.3))
    began = time.monotonic()
    assert (await provider.push(token))[0] == 200
    assert time.monotonic() - began >= 0.3


async def test_the_control_port_does_what_a_phone_needs(
    apns: LabApns, provider: Provider, key: ProviderKey
) -> None:
    async with aiohttp.ClientSession(apns.control_url) as control:
        async with control.post("/tokens", json={"topic": TOPIC}) as answer:
            token = (await answer.json())["token"]
        pushes = f"/tokens/{token}/pushes"
        async with control.get(pushes) as answer:
            assert (await answer.json()) == {"pushes": [], "shown": [], "badge": 0}
        async with control.get(f"/tokens/{token}/stream") as stream:
            assert await stream.content.readline() == b": open\n"
            await provider.push(token)
            lines = [await stream.content.readline() for _ in range(3)]
        assert lines[1] == b"id: 1\n"
        assert json.loads(lines[2].removeprefix(b"data: "))["payload"] == ALERT
        waiting = asyncio.create_task(control.get(pushes, params={"after": 1, "wait_s": 10}))
        await asyncio.sleep(0.05)
        await provider.push(token)
        async with await waiting as answer:
            seen = await answer.json()
        assert [push["number"] for push in seen["pushes"]] == [2]
        assert (len(seen["shown"]), seen["badge"]) == (2, 1)
        async with control.post(
            "/faults", json={"action": "refuse", "reason": "ServiceUnavailable"}
        ) as answer:
            assert answer.status == 204
        assert (await provider.push(token))[0] == 503
        async with control.delete(f"/tokens/{token}") as answer:
            assert answer.status == 204
        assert (await provider.push(token))[0] == 410
        async with control.get("/answers") as answer:
            assert await answer.json() == {
                "200": 2,
                "503 ServiceUnavailable": 1,
                "410 Unregistered": 1,
            }


async def test_a_key_made_elsewhere_can_be_introduced(apns: LabApns) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    p8 = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    known = {"key_id": "KEYID12345", "team_id": TEAM, "topics": [TOPIC]}
    async with aiohttp.ClientSession(apns.control_url) as control:
        async with control.post("/keys", json=known | {"public_pem": public.decode()}) as answer:
            assert answer.status == 204
        provider = Provider(apns, ProviderKey("KEYID12345", TEAM, p8.decode()))
        assert (await provider.push(apns.register(TOPIC)))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/tokens", b"[]", 400),
        ("POST", "/tokens", b"{", 400),
        ("POST", "/tokens", b"{}", 404),
        ("GET", "/tokens/ab/pushes", b"", 404),
        ("GET", "/tokens/ab/stream", b"", 404),
        ("DELETE", "/tokens/ab", b"", 404),
        ("POST", "/faults", b'{"action": "explode"}', 400),
        ("POST", "/faults", b'{"reason": "x", "other": 1}', 400),
    ],
)
async def test_the_control_port_refuses_nonsense(
    apns: LabApns, method: str, path: str, content: bytes, status: int
) -> None:
    async with (
        aiohttp.ClientSession(apns.control_url) as control,
        control.request(method, path, data=content) as answer,
    ):
        assert answer.status == status
