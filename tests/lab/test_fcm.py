"""The pretend FCM answers as Google documents it. Spoken to with libcurl and google-auth."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pycurl
import pytest
from google.auth import crypt, exceptions, jwt
from google.oauth2 import service_account

from apps.lab.ca import LabCa
from apps.lab.fcm import FcmFault, LabFcm
from apps.lab.fcm.accounts import GRANT, SCOPE, TOKEN_URI, ServiceAccount, new_account

APP, PROJECT = "com.example.mail", "lab-mail-1"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fcm(tmp_path: Path, clock: Clock) -> AsyncIterator[LabFcm]:
    server = LabFcm(LabCa(tmp_path), clock=clock)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def account(fcm: LabFcm) -> ServiceAccount:
    return fcm.new_account(PROJECT)


class Caller:
    """Blocking calls over HTTP/2; google-auth takes it for one of its transports."""

    def __init__(self, fcm: LabFcm) -> None:
        self._fcm = fcm

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        **_more: Any,
    ) -> SimpleNamespace:
        curl, parts = pycurl.Curl(), []
        lines: dict[str, str] = {}

        def on_header(line: bytes) -> None:
            name, colon, value = line.decode().partition(":")
            if colon:
                lines[name.lower()] = value.strip()

        # Google's address, which a service account's file names, is this server's here.
        curl.setopt(pycurl.URL, self._fcm.token_url if url == TOKEN_URI else url)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.CAINFO_BLOB, self._fcm.ca_pem.encode())
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TIMEOUT, 10)
        curl.setopt(pycurl.POSTFIELDS, body or b"")
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        curl.setopt(pycurl.HTTPHEADER, [f"{k}: {v}" for k, v in (headers or {}).items()])
        curl.setopt(pycurl.HEADERFUNCTION, on_header)
        curl.setopt(pycurl.WRITEFUNCTION, parts.append)
        curl.perform()
        assert curl.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        return SimpleNamespace(status=status, headers=lines, data=b"".join(parts))

    def token(self, account: ServiceAccount, scope: str = SCOPE) -> str:
        """An access token as Google's own library gets it."""
        found = service_account.Credentials.from_service_account_info(
            json.loads(account.file), scopes=[scope]
        )
        found.refresh(self)
        assert found.valid
        return str(found.token)

    def send(
        self, token: str, message: dict[str, Any] | bytes, project: str = PROJECT
    ) -> SimpleNamespace:
        body = message if isinstance(message, bytes) else json.dumps({"message": message}).encode()
        url = f"{self._fcm.url}/v1/projects/{project}/messages:send"
        return self(url, "POST", body, {"authorization": f"Bearer {token}"})


def message(token: str, **android: Any) -> dict[str, Any]:
    given = {"priority": "HIGH", "ttl": "60s", "restricted_package_name": APP} | android
    return {
        "token": token,
        "data": {"v": "1", "title": "Grüße"},
        "android": {name: value for name, value in given.items() if value is not ...},
    }


def code(answer: SimpleNamespace) -> str | None:
    """FCM's own code in an answer."""
    details = json.loads(answer.data)["error"].get("details", [])
    return next((d["errorCode"] for d in details if d["@type"] == FCM_ERROR), None)


async def test_googles_own_library_gets_a_token_and_a_message_arrives(
    fcm: LabFcm, account: ServiceAccount
) -> None:
    caller, phone = Caller(fcm), fcm.register(APP, PROJECT)
    token = await asyncio.to_thread(caller.token, account)
    sent = message(phone, collapse_key="badge", priority="NORMAL", ttl="3.5s")
    answer = await asyncio.to_thread(caller.send, token, sent)
    assert answer.status == 200
    assert json.loads(answer.data)["name"].startswith(f"projects/{PROJECT}/messages/")
    (arrival,) = fcm.phones.arrivals(phone)
    assert arrival.message.data == {"v": "1", "title": "Grüße"}
    assert (arrival.message.collapse_key, arrival.message.ttl_s) == ("badge", 3.5)
    assert fcm.answers == {(200, ""): 2}


async def test_a_wrong_assertion_gets_no_token(fcm: LabFcm, account: ServiceAccount) -> None:
    caller = Caller(fcm)
    stranger, _ = new_account(PROJECT)
    forged = json.loads(stranger.file) | {"client_email": account.client_email}
    for file, scope in ((stranger.file, SCOPE), (json.dumps(forged), SCOPE), (account.file, "x")):
        wrong = ServiceAccount(PROJECT, account.client_email, file)
        with pytest.raises(exceptions.RefreshError):
            await asyncio.to_thread(caller.token, wrong, scope)
    assert fcm.accounts.issued == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({}, None),
        ({"aud": "https://elsewhere.example/token"}, "invalid_grant"),
        ({"iat": -4000, "exp": -400}, "invalid_grant"),
        ({"iat": 600, "exp": 1200}, "invalid_grant"),
        ({"exp": 7200}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/cloud-platform.read-only"}, "invalid_scope"),
        ({"iss": "nobody@example.iam.gserviceaccount.com"}, "invalid_grant"),
    ],
)
async def test_the_claims_of_an_assertion_count(
    fcm: LabFcm, account: ServiceAccount, change: dict[str, Any], error: str | None
) -> None:
    now = int(time.time())
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": TOKEN_URI}
    claims |= {"iat": now, "exp": now + 3600}
    claims |= {name: now + v if isinstance(v, int) else v for name, v in change.items()}
    signer = crypt.RSASigner.from_service_account_info(json.loads(account.file))
    form = {"grant_type": GRANT, "assertion": jwt.encode(signer, claims).decode()}
    body = urlencode(form).encode()
    answer = await asyncio.to_thread(Caller(fcm), TOKEN_URI, "POST", body)
    content = json.loads(answer.data)
    assert content.get("error") == error
    assert answer.status == (200 if error is None else 400)
    assert ("access_token" in content) == (error is None)


@pytest.mark.parametrize("body", [b"", b"grant_type=password", b"\xff\xfe", b"a" * 100_000])
async def test_nonsense_gets_no_token(fcm: LabFcm, body: bytes) -> None:
    answer = await asyncio.to_thread(Caller(fcm), TOKEN_URI, "POST", body)
    assert answer.status == 400
    malformed = urlencode({"grant_type": GRANT, "assertion": "a.b"}).encode()
    answer = await asyncio.to_thread(Caller(fcm), TOKEN_URI, "POST", malformed)
    assert json.loads(answer.data)["error"] == "invalid_request"


async def test_an_access_token_is_good_for_an_hour_and_one_project(
    fcm: LabFcm, account: ServiceAccount, clock: Clock
) -> None:
    caller, phone = Caller(fcm), fcm.register(APP, PROJECT)
    token = await asyncio.to_thread(caller.token, account)

    async def send(token: str, project: str = PROJECT) -> tuple[int, str]:
        answer = await asyncio.to_thread(caller.send, token, message(phone), project)
        return answer.status, json.loads(answer.data).get("error", {}).get("status", "")

    assert await send(token) == (200, "")
    assert await send(token, "another-project") == (403, "PERMISSION_DENIED")
    assert await send("made-up") == (401, "UNAUTHENTICATED")
    clock.offset = 3599
    assert await send(token) == (200, "")
    clock.offset = 3601
    assert await send(token) == (401, "UNAUTHENTICATED")


async def test_whose_token_is_whose(fcm: LabFcm, account: ServiceAccount) -> None:
    caller = Caller(fcm)
    token = await asyncio.to_thread(caller.token, account)
    gone, foreign = fcm.register(APP, PROJECT), fcm.register(APP, "another-project")
    other_app = fcm.register("com.example.other", PROJECT)
    fcm.phones.unregister(gone)
    for phone, status, expected in (
        (gone, 404, "UNREGISTERED"),
        (foreign, 403, "SENDER_ID_MISMATCH"),
        ("never-registered-" + "a" * 30, 400, "INVALID_ARGUMENT"),
        (other_app, 400, "INVALID_ARGUMENT"),
    ):
        answer = await asyncio.to_thread(caller.send, token, message(phone))
        assert (answer.status, code(answer)) == (status, expected)
    assert fcm.register(APP, PROJECT, gone) == gone
    assert (await asyncio.to_thread(caller.send, token, message(gone))).status == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"token": "short"}, "message.token"),
        ({"token": None}, "message.token"),
        ({"data": {"n": 1}}, "message.data[0].value"),
        ({"data": {"from": "x"}}, "message.data[from]"),
        ({"data": {"google.x": "x"}}, "message.data[google.x]"),
        ({"data": "x"}, "message.data"),
        ({"notification": {"title": "x"}}, "message"),
        ({"android": None}, "message.android"),
        ({"android": {"priority": "high"}}, "message.android.priority"),
        ({"android": {"priority": "HIGH", "direct_boot_ok": True}}, "message.android"),
        (
            {"android": {"priority": "HIGH", "ttl": "60s"}},
            "message.android.restricted_package_name",
        ),
    ],
)
async def test_an_invalid_message_names_the_member(
    fcm: LabFcm, account: ServiceAccount, change: dict[str, Any], field: str
) -> None:
    caller = Caller(fcm)
    token = await asyncio.to_thread(caller.token, account)
    sent = message(fcm.register(APP, PROJECT)) | change
    answer = await asyncio.to_thread(caller.send, token, sent)
    assert (answer.status, code(answer)) == (400, "INVALID_ARGUMENT")
    (violations,) = [
        detail["fieldViolations"]
        for detail in json.loads(answer.data)["error"]["details"]
        if "fieldViolations" in detail
    ]
    assert [each["field"] for each in violations] == [field]


@pytest.mark.parametrize("ttl", ["60", "-1s", 60, "2419201s", ...])
async def test_an_invalid_time_to_live(fcm: LabFcm, account: ServiceAccount, ttl: Any) -> None:
    caller = Caller(fcm)
    token = await asyncio.to_thread(caller.token, account)
    sent = message(fcm.register(APP, PROJECT), ttl=ttl)
    answer = await asyncio.to_thread(caller.send, token, sent)
    assert (answer.status, code(answer)) == (400, "INVALID_ARGUMENT")


async def test_4096_bytes_of_data_and_no_more(fcm: LabFcm, account: ServiceAccount) -> None:
    caller, phone = Caller(fcm), fcm.register(APP, PROJECT)
    token = await asyncio.to_thread(caller.token, account)
    for filler, status in (("ü" * 2046, 200), ("ü" * 2046 + "x", 200), ("ü" * 2047, 400)):
        sent = message(phone) | {"data": {"key": filler}}
        assert (await asyncio.to_thread(caller.send, token, sent)).status == status
    for nonsense in (b"", b"[", b"[]", b"\xff", b"{" * 5000):
        assert (await asyncio.to_thread(caller.send, token, nonsense)).status == 400


async def test_faults_happen_where_they_were_ordered(fcm: LabFcm, account: ServiceAccount) -> None:
    caller, phone = Caller(fcm), fcm.register(APP, PROJECT)
    fcm.order(FcmFault("refuse", reason="internal_failure", place="token"))
    answer = await asyncio.to_thread(caller, TOKEN_URI, "POST", b"")
    assert (answer.status, json.loads(answer.data)["error"]) == (500, "internal_failure")
    token = await asyncio.to_thread(caller.token, account)
    fcm.order(FcmFault("refuse", reason="QUOTA_EXCEEDED", retry_after_s=30, token=phone))
    answer = await asyncio.to_thread(caller.send, token, message(phone))
    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    assert code(answer) == "QUOTA_EXCEEDED"
    fcm.order(FcmFault("drop"))
    with pytest.raises(pycurl.error):
        await asyncio.to_thread(caller.send, token, message(phone))
    fcm.order(FcmFault("refuse", times=9, reason="UNAVAILABLE"))
    fcm.clear_faults()
    assert (await asyncio.to_thread(caller.send, token, message(phone))).status == 200
    with pytest.raises(ValueError, match="unknown reason"):
        FcmFault("refuse", reason="BadDeviceToken")


async def test_other_addresses_are_not_found(fcm: LabFcm) -> None:
    caller = Caller(fcm)
    for method, path in (("GET", "/token"), ("POST", "/v1/projects/x/messages"), ("POST", "/")):
        assert (await asyncio.to_thread(caller, fcm.url + path, method, b"")).status == 404


async def test_the_control_port(fcm: LabFcm) -> None:
    caller = Caller(fcm)
    account, public_pem = new_account(PROJECT)
    async with aiohttp.ClientSession(fcm.control_url) as http:
        known = {"project_id": PROJECT, "client_email": account.client_email}
        async with http.post("/accounts", json=known | {"public_pem": public_pem}) as answer:
            assert answer.status == 204
        async with http.post("/tokens", json={"package": APP, "project_id": PROJECT}) as answer:
            phone = (await answer.json())["token"]
        fault = {"action": "refuse", "reason": "UNAVAILABLE", "token": phone}
        async with http.post("/faults", json=fault) as answer:
            assert answer.status == 204
        token = await asyncio.to_thread(caller.token, account)
        assert (await asyncio.to_thread(caller.send, token, message(phone))).status == 503
        waiting = asyncio.create_task(_json(http, f"/tokens/{phone}/pushes?wait_s=10"))
        stream = await http.get("/stream")
        assert (await asyncio.to_thread(caller.send, token, message(phone))).status == 200
        (push,) = (await waiting)["pushes"]
        assert (push["number"], push["data"]["title"]) == (1, "Grüße")
        assert (push["package"], push["priority"], push["ttl_s"]) == (APP, "HIGH", 60.0)
        assert await _json(http, f"/tokens/{phone}/pushes?after=1") == {"pushes": []}
        line = b""
        while not line.startswith(b"data: "):
            line = await stream.content.readline()
        assert json.loads(line.removeprefix(b"data: ")) == push | {"token": phone}
        stream.close()
        found = await _json(http, "/answers")
        assert found == {"200": 2, "503 UNAVAILABLE": 1}
        async with http.delete(f"/tokens/{phone}") as answer:
            assert answer.status == 204
        assert (await asyncio.to_thread(caller.send, token, message(phone))).status == 404
        async with http.delete("/access_tokens") as answer:
            assert answer.status == 204
        assert (await asyncio.to_thread(caller.send, token, message(phone))).status == 401
        async with http.delete("/tokens/unknown") as answer:
            assert answer.status == 404
        async with http.post("/faults", json={"action": "explode"}) as answer:
            assert answer.status == 400
        async with http.delete("/faults") as answer:
            assert answer.status == 204


async def _json(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as answer:
        return await answer.json()
