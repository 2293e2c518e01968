"""Hostile input at two processes of one relay, and at another relay: a clear refusal each.

Nothing of it is sent: after every line the pretend APNs has seen no notification more. The many
ways to get a signature wrong are in test_signature.py.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.cns.channel import Channel, load_channel, make_channel
from tests.relay.conftest import OTHER_APP, Site
from tests.relay.servers import Relay, RelayProcess

APNS, FCM = "/nws/notify/apns", "/nws/notify/fcm"
LIMIT = 4 * 1024 * 1024


@dataclass
class Place:
    """Two processes of our relay and one of another, at which the same deployment may call."""

    site: Site
    second: RelayProcess
    other: RelayProcess
    channel: Channel

    @property
    def first(self) -> RelayProcess:
        return self.site.process

    def body(self, token: str, **changes: Any) -> bytes:
        push = self.site.push(token, **changes)
        notification = {name: getattr(push, name) for name in push.__slots__}
        return json.dumps({"version": 1, "notifications": [notification]}).encode()

    def signed(
        self, body: bytes, at: float = 0.0, channel: Channel | None = None
    ) -> dict[str, str]:
        signature = (channel or self.channel).sign(
            self.site.relay.audience, "POST", APNS, body, time.time() + at
        )
        return {"Content-Type": "application/json", "ENS-Signature": signature}


@pytest.fixture(scope="module")
def place(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    elsewhere = Relay(tmp_path_factory.mktemp("other-relay"), site.apns, site.fcm)
    certificate = site.relay.home / "ours.pem"
    elsewhere.manage("relay_deployment", "add", "--name", "ours", "--certificate", certificate)
    second, other = site.relay.serve(), elsewhere.serve(elsewhere.port)
    yield Place(site, second, other, load_channel(site.channel))
    second.stop()
    other.stop()


@pytest.fixture
def sends() -> None:
    """For tests whose good calls may be sent; they count for themselves."""


def refused(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, problem = answer
    assert problem["status"] == status and problem["title"]
    return status, problem["code"]


@pytest.fixture(autouse=True)
def nothing_is_sent(request: pytest.FixtureRequest, site: Site) -> Iterator[None]:
    before = site.apns.answers.total()
    yield
    if "sends" not in request.fixturenames:
        assert site.apns.answers.total() == before


def test_unsigned(place: Place, token: str) -> None:
    body = place.body(token)
    for process in (place.first, place.second):
        answer = process.post(body, {"Content-Type": "application/json"})
        assert refused(answer) == (401, "signature_missing")


@pytest.mark.usefixtures("sends")
def test_replayed_to_any_process(place: Place, token: str) -> None:
    body = place.body(token)
    headers = place.signed(body)
    assert place.second.post(body, headers)[0] == 200
    for process in (place.first, place.second, place.first):
        assert refused(process.post(body, headers)) == (401, "nonce_replayed")
    assert len(place.site.apns.phones.arrivals(token)) == 1


@pytest.mark.usefixtures("sends")
def test_sent_to_both_processes_in_the_same_moment(place: Place, token: str) -> None:
    for _ in range(5):
        body = place.body(token)
        headers = place.signed(body)
        processes = [place.first, place.second] * 4
        with ThreadPoolExecutor(len(processes)) as pool:
            answers = list(pool.map(lambda each: each.post(body, headers)[0], processes))  # noqa: B023
        assert sorted(answers) == [200] + [401] * 7
    assert len(place.site.apns.phones.arrivals(token)) == 5


@pytest.mark.usefixtures("sends")
def test_replayed_after_the_first_was_refused_for_its_body(place: Place, token: str) -> None:
    """Whoever has seen only the signature can't use up its nonce."""
    body = place.body(token)
    headers = place.signed(body)
    assert refused(place.second.post(body + b" ", headers)) == (401, "body_mismatch")
    assert place.first.post(body, headers)[0] == 200


def test_replayed_to_another_path(place: Place, token: str) -> None:
    body = place.body(token)
    answer = place.second.post(body, place.signed(body), path=FCM)
    assert refused(answer) == (401, "request_mismatch")


def test_replayed_to_another_relay(place: Place, token: str) -> None:
    body = place.body(token)
    assert refused(place.other.post(body, place.signed(body))) == (401, "audience_mismatch")


@pytest.mark.parametrize("at", [-61 - 60, -75, 75, 3600])
def test_re_dated(place: Place, token: str, at: float) -> None:
    """An old call, or one made for later, both with a good signature."""
    body = place.body(token)
    answer = place.second.post(body, place.signed(body, at))
    assert refused(answer) == (401, "clock_mismatch")


def test_re_dated_under_the_old_signature(place: Place, token: str) -> None:
    body = place.body(token)
    head, _, signature = place.signed(body, -3600)["ENS-Signature"].split(".")
    claims = place.signed(body)["ENS-Signature"].split(".")[1]
    headers = {"Content-Type": "application/json", "ENS-Signature": f"{head}.{claims}.{signature}"}
    assert refused(place.second.post(body, headers)) == (401, "signature_invalid")


def test_oversized(place: Place) -> None:
    """Whoever signs it: no byte of it is read."""
    for headers in ({"Content-Type": "application/json"}, place.signed(b"x")):
        status, code = announced(place.second, LIMIT + 1, headers)
        assert (status, code) == (413, "body_too_large")


def test_a_stranger_can_not_make_us_read_a_large_body(place: Place) -> None:
    """The refusal comes before the first byte of the body is sent."""
    unknown = load_channel(b"".join(make_channel("unknown")))
    ways = {
        "signature_missing": {"Content-Type": "application/json"},
        "certificate_unknown": place.signed(b"x", channel=unknown),
        "signature_invalid": place.signed(b"x")
        | {"ENS-Signature": place.signed(b"x")["ENS-Signature"][:-8] + "AAAAAAAA"},
        "clock_mismatch": place.signed(b"x", -3600),
    }
    for expected, headers in ways.items():
        assert announced(place.first, LIMIT, headers) == (401, expected)


def announced(process: RelayProcess, length: int, headers: dict[str, str]) -> tuple[int, str]:
    """The answer to a request that announces a body and never sends it."""
    lines = [f"POST {APNS} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())["code"]


@pytest.mark.parametrize("app", ["com.nobody.mail", OTHER_APP])
def test_an_unknown_app_and_another_deployments(place: Place, token: str, app: str) -> None:
    """One word for both: it tells nobody whose apps this relay knows."""
    body = place.body(token, app=app)
    for process in (place.first, place.second):
        status, answer = process.post(body, place.signed(body))
        assert status == 200
        (result,) = answer["results"]
        assert (result["status"], result["reason"]) == ("failed", "app_not_allowed")


# Each process remembers callers and apps for a second, far below the five that are promised.
KNOWN_S = 1.1


@pytest.mark.usefixtures("sends")
def test_a_revoked_certificate_is_refused_by_every_process_within_seconds(
    place: Place, tmp_path: Path, token: str
) -> None:
    key, certificate = make_channel("short-lived")
    (tmp_path / "channel.pem").write_bytes(certificate)
    manage = place.site.relay.manage
    file = tmp_path / "channel.pem"
    manage("relay_deployment", "add", "--name", "short-lived", "--certificate", file)
    app = "com.example.mail"
    manage("relay_push_app", "share", "--app", app, "--with", "short-lived")
    channel = load_channel(key + certificate)
    processes = (place.first, place.second)
    for process in processes:
        body = place.body(token)
        assert process.post(body, place.signed(body, channel=channel))[1]["results"][0] == {
            "id": json.loads(body)["notifications"][0]["id"],
            "status": "accepted",
        }
    manage("relay_push_app", "unshare", "--app", app, "--with", "short-lived")
    time.sleep(KNOWN_S)
    for process in processes:
        body = place.body(token)
        (result,) = process.post(body, place.signed(body, channel=channel))[1]["results"]
        assert result["reason"] == "app_not_allowed"
    manage("relay_deployment", "revoke", "--name", "short-lived")
    began = time.monotonic()
    time.sleep(KNOWN_S)
    for process in processes:
        body = place.body(token)
        answer = process.post(body, place.signed(body, channel=channel))
        assert refused(answer) == (401, "certificate_revoked")
    assert time.monotonic() - began < 5
