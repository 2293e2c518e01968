"""The pretend phone against a tiny ENS that is written from the page, as the phone is."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import RSAKey

from apps.lab.apns import LabApns
from apps.lab.apns import rules as apns_rules
from apps.lab.ca import LabCa
from apps.lab.phone import Account, Apns, EnsClient, Phone, Refused
from apps.lab.stand.waiting import until

TOPIC = "com.example.mail"
ANNA = Account("anna@example.com", "EXAMPLE\\anna", "s3cret", "https://mail.example/EWS/x.asmx")
NOTHING = {
    "state": "active",
    "code": None,
    "do": "nothing",
    "checkin_seconds": 3600,
    "poll_seconds": 1,
}


@dataclass
class FakeEns:
    """Answers by script; keeps what it was asked: (call, bearer, body, opened JWE)."""

    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048))
    asked: list[tuple[str, str, dict, dict | None, dict]] = field(default_factory=list)
    checkins: list[tuple[int, dict]] = field(default_factory=list)
    url: str = ""

    def answer(self, call: str, bearer: str, body: dict) -> tuple[int, dict | None]:
        opened, header = self.open(body["jwe"]) if "jwe" in body else (None, {})
        self.asked.append((call, bearer, body, opened, header))
        if call == "publickey":
            public = self.key.as_dict(private=False) | {
                "kid": "k1",
                "alg": "RSA-OAEP-256",
                "use": "enc",
            }
            return 200, {"kid": "k1", "jwk": public, "expires_at": "2031-01-01T00:00:00Z"}
        if call == "subscribe":
            number = len(self.of("subscribe"))
            device = {"device_id": f"d{number}", "device_secret": f"secret{number}"}
            return 202, device | {"state": "joining", "poll_seconds": 0.05}
        if call == "checkin":
            return self.checkins.pop(0) if self.checkins else (200, NOTHING)
        return 204, None

    def open(self, compact: str) -> tuple[dict, dict]:
        opened = jwe.decrypt_compact(compact, self.key, algorithms=["RSA-OAEP-256", "A256GCM"])
        return json.loads(opened.plaintext or b""), opened.protected

    def of(self, call: str) -> list[tuple[str, str, dict, dict | None, dict]]:
        return [asked for asked in self.asked if asked[0] == call]


@pytest.fixture
def ens() -> Iterator[FakeEns]:
    fake = FakeEns()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bearer = self.headers["Authorization"].removeprefix("Bearer ")
            status, answer = fake.answer(self.path.rpartition("/")[2], bearer, body)
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}/MailNotificationService/api/ens"
    yield fake
    server.shutdown()
    server.server_close()


class RunningApns:
    """The pretend APNs in a thread; `push` delivers as if a provider's push had been accepted."""

    def __init__(self, home: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.apns = LabApns(LabCa(home))
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.apns.start(), self.loop).result(10)

    def push(self, token: str, payload: dict, collapse_id: str = "") -> None:
        push = apns_rules.Push(token, TOPIC, "alert", 10, 0, collapse_id, payload)
        self.loop.call_soon_threadsafe(self.apns.phones.deliver, push, "id", time.time())

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.apns.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture
def apns(tmp_path: Path) -> Iterator[RunningApns]:
    running = RunningApns(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def phone(ens: FakeEns, apns: RunningApns) -> Iterator[Phone]:
    it = Phone(ANNA, EnsClient(ens.url, "ens_token"), Apns(apns.apns.control_url), app_id=TOPIC)
    yield it
    it.switch_off()


def announcement(item: str, title: str, body: str, badge: int) -> dict[str, Any]:
    return {
        "aps": {"alert": {"title": title, "body": body}, "badge": badge, "sound": "default"},
        "ens": {"v": 1, "kind": "announcement", "item": item},
    }


def test_subscribes_with_everything_encrypted(ens: FakeEns, phone: Phone) -> None:
    assert phone.join(5) == "active"
    _, bearer, body, opened, header = ens.of("subscribe")[0]
    assert bearer == "ens_token"
    assert header == {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "k1"}
    assert list(body) == ["jwe"]
    assert opened is not None
    assert abs(opened["iat"] - time.time()) < 10
    assert opened["credentials"] == {
        "type": "basic",
        "username": "EXAMPLE\\anna",
        "password": "s3cret",
    }
    assert (opened["email"], opened["push_token"]) == ("anna@example.com", phone.token)
    assert opened["ews_url"] == ANNA.ews_url


def test_polls_until_the_outcome_is_known(ens: FakeEns, phone: Phone) -> None:
    joining = NOTHING | {"state": "joining", "do": "wait", "poll_seconds": 0.05}
    refused = NOTHING | {"state": "refused", "code": "credentials_refused"}
    ens.checkins = [(200, joining), (200, joining), (200, refused)]
    assert phone.join(5) == "refused"
    assert phone.code == "credentials_refused"
    assert [asked[1] for asked in ens.of("checkin")] == ["secret1"] * 3


def test_sends_credentials_when_asked_with_a_rising_counter(ens: FakeEns, phone: Phone) -> None:
    phone.subscribe()
    asks = NOTHING | {"do": "send_credentials", "checkin_seconds": 0.05}
    ens.checkins = [(200, asks), (200, NOTHING | {"checkin_seconds": 0.05})] * 2
    phone._checkin_seconds = 0.05
    phone.switch_on()
    until("four check-ins", lambda: len(ens.of("checkin")) >= 4, 10)
    opened = [asked[3] for asked in ens.of("checkin")[:4]]
    assert opened[0] is None
    assert opened[2] is None
    assert opened[1] is not None and opened[3] is not None
    assert [opened[1]["counter"], opened[3]["counter"]] == [1, 2]
    assert opened[1]["device_id"] == "d1"
    assert opened[1]["email"] == ANNA.email
    assert opened[1]["credentials"]["password"] == "s3cret"
    assert opened[1]["jti"] != opened[3]["jti"]


def test_subscribes_again_when_ens_no_longer_knows_it(ens: FakeEns, phone: Phone) -> None:
    phone.subscribe()
    ens.checkins = [(401, {"code": "unknown_device", "status": 401})]
    phone._checkin_seconds = 0.05
    phone.switch_on()
    until("a second subscribe", lambda: len(ens.of("subscribe")) == 2, 10)
    until("its check-in", lambda: ens.of("checkin")[-1][1] == "secret2", 10)


def test_does_not_try_a_refused_password_again(ens: FakeEns, phone: Phone) -> None:
    phone.subscribe()
    refused = {"state": "refused", "code": "credentials_refused", "do": "subscribe"}
    ens.checkins = [(200, NOTHING | refused | {"checkin_seconds": 0.02})] * 5
    phone.switch_on()
    until("five check-ins", lambda: len(ens.of("checkin")) >= 5, 10)
    assert len(ens.of("subscribe")) == 1


def test_wakes_up_and_checks_in(ens: FakeEns, phone: Phone, apns: RunningApns) -> None:
    phone.join(5)
    phone.switch_on()
    before = len(ens.of("checkin"))
    wake_up = {"aps": {"content-available": 1}, "ens": {"v": 1, "kind": "wakeup"}}
    apns.push(phone.token, wake_up)
    until("a check-in", lambda: len(ens.of("checkin")) > before, 10)
    assert phone.screen.notifications == []


def test_shows_what_is_pushed(phone: Phone, apns: RunningApns) -> None:
    phone.switch_on()
    apns.push(phone.token, announcement("i1", "Bob", "Lunch?", 1), "i1")
    apns.push(phone.token, announcement("i2", "Carol", "Minutes", 2), "i2")
    apns.push(phone.token, announcement("i1", "Bob", "Lunch?", 2), "i1")
    apns.push(phone.token, {"aps": {"badge": 1}, "ens": {"v": 1, "kind": "badge"}}, "badge")
    assert phone.wait_for(lambda: len(phone.pushes) == 4, 10)
    shown = [(push.title, push.body) for push in phone.screen.notifications]
    assert shown == [("Carol", "Minutes"), ("Bob", "Lunch?")]
    assert phone.screen.badge == 1
    assert phone.screen.announced == {"i1": 2, "i2": 1}
    assert abs(phone.pushes[0].at - time.time()) < 10


def test_unsubscribes_with_its_secret(ens: FakeEns, phone: Phone) -> None:
    phone.subscribe()
    phone.unsubscribe()
    call, bearer, body, _, _ = ens.asked[-1]
    assert (call, bearer, body) == ("unsubscribe", "secret1", {"device_id": "d1"})


def test_a_refusal_carries_its_code_and_no_secret(ens: FakeEns, phone: Phone) -> None:
    phone.subscribe()
    ens.checkins = [(429, {"code": "too_many_requests", "status": 429})]
    with pytest.raises(Refused) as caught:
        phone.check_in()
    assert (caught.value.status, caught.value.code) == (429, "too_many_requests")
    assert "s3cret" not in repr(ANNA) + repr(phone.device) + str(caught.value)
