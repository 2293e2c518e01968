"""What each of Apple's answers means."""

from __future__ import annotations

import json

import pytest

from apps.lab.apns.answers import STATUS_OF_REASON
from apps.relay.providers import Outcome
from apps.relay.providers.apns.classify import classify, classify_error
from apps.wire.client import Response
from apps.wire.errors import ConnectFailed, DeadlineExceeded

DEAD = {
    "BadDeviceToken",
    "DeviceTokenNotForTopic",
    "ExpiredToken",
    "MissingDeviceToken",
    "Unregistered",
}
RETRY = {
    "IdleTimeout",
    "InternalServerError",
    "ServiceUnavailable",
    "Shutdown",
    "TooManyProviderTokenUpdates",
    "TooManyRequests",
}


def answered(status: int, body: bytes = b"", **headers: str) -> Outcome:
    return classify(Response(status, headers, body))


@pytest.mark.parametrize(("reason", "status"), STATUS_OF_REASON.items())
def test_every_reason_has_its_class(reason: str, status: int) -> None:
    outcome = answered(status, json.dumps({"reason": reason}).encode())
    expected = "dead" if reason in DEAD else "retry" if reason in RETRY else "failed"
    assert (outcome.status, outcome.reason) == (expected, reason)
    assert (outcome.retry_after_s is not None) == (expected == "retry")


def test_success() -> None:
    assert answered(200) == Outcome("accepted")


def test_a_410_says_since_when() -> None:
    body = json.dumps({"reason": "Unregistered", "timestamp": 1_700_000_000_123}).encode()
    assert answered(410, body).dead_since_ms == 1_700_000_000_123


@pytest.mark.parametrize("timestamp", ["1700000000123", -5, 0, 1.5, 2**60, None])
def test_an_odd_time_is_left_out(timestamp: object) -> None:
    body = json.dumps({"reason": "Unregistered", "timestamp": timestamp}).encode()
    assert answered(410, body) == Outcome("dead", "Unregistered")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 100_000, b'{"reason": 5}', b"\xff"])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (410, "dead"),
        (400, "failed"),
        (404, "failed"),
        (502, "retry"),
        (302, "retry"),
        (429, "retry"),
    ],
)
def test_an_answer_without_apples_json_goes_by_its_status(
    body: bytes, status: int, expected: str
) -> None:
    outcome = answered(status, body)
    assert (outcome.status, outcome.reason) == (expected, f"http_{status}")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), ("999999", 3600.0), ("soon", 2.0), ("-1", 2.0), ("²", 2.0)],
)
def test_retry_after_is_heard_within_reason(header: str, seconds: float) -> None:
    assert answered(503, **{"retry-after": header}).retry_after_s == seconds


@pytest.mark.parametrize("error", [ConnectFailed(), DeadlineExceeded()])
def test_no_answer_means_try_again(error: ConnectFailed | DeadlineExceeded) -> None:
    outcome = classify_error(error)
    assert (outcome.status, outcome.reason) == ("retry", error.code)
