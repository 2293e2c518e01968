"""What each of FCM's answers means; the quota's pauses; the message and its limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.relay.providers import Notification
from apps.relay.providers.fcm.classify import Verdict, classify
from apps.relay.providers.fcm.message import Unsendable, message
from apps.relay.providers.fcm.quota import FIRST_PAUSE_S, LONGEST_PAUSE_S, Quotas
from apps.wire.client import Response

FCM = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"


def answer(
    status: int, canonical: str, *details: dict[str, Any], message: str = "", **headers: str
) -> Verdict:
    error = {"code": status, "status": canonical, "message": message, "details": list(details)}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Response(status, named, json.dumps({"error": error}).encode()))


def fcm(code: str) -> dict[str, Any]:
    return {"@type": FCM, "errorCode": code}


def fields(*names: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": name} for name in names]}


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (classify(Response(200, {}, b"{}")), "accepted", ""),
        (answer(404, "NOT_FOUND", fcm("UNREGISTERED")), "dead", "UNREGISTERED"),
        (answer(403, "PERMISSION_DENIED", fcm("SENDER_ID_MISMATCH")), "dead", "SENDER_ID_MISMATCH"),
        (
            answer(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), fields("message.token")),
            "dead",
            "INVALID_ARGUMENT",
        ),
        (
            answer(
                400,
                "INVALID_ARGUMENT",
                fcm("INVALID_ARGUMENT"),
                message="The registration token is not a valid FCM registration token",
            ),
            "dead",
            "INVALID_ARGUMENT",
        ),
        # The token is not the only thing that was wrong, or not at all.
        (
            answer(400, "INVALID_ARGUMENT", fields("message.token", "message.android.ttl")),
            "failed",
            "INVALID_ARGUMENT",
        ),
        (answer(400, "INVALID_ARGUMENT", fields("message.data[x]")), "failed", "INVALID_ARGUMENT"),
        (answer(400, "INVALID_ARGUMENT", message="too big"), "failed", "INVALID_ARGUMENT"),
        # No word of FCM itself: the project's address may be wrong, so no token is dead.
        (answer(404, "NOT_FOUND"), "failed", "NOT_FOUND"),
        (classify(Response(404, {}, b"<html>")), "failed", "http_404"),
        (answer(403, "PERMISSION_DENIED"), "failed", "PERMISSION_DENIED"),
        (
            answer(401, "UNAUTHENTICATED", fcm("THIRD_PARTY_AUTH_ERROR")),
            "failed",
            "THIRD_PARTY_AUTH_ERROR",
        ),
        (answer(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED")), "retry", "QUOTA_EXCEEDED"),
        (answer(500, "INTERNAL", fcm("INTERNAL")), "retry", "INTERNAL"),
        (answer(503, "UNAVAILABLE", fcm("UNAVAILABLE")), "retry", "UNAVAILABLE"),
        (classify(Response(502, {}, b"<!DOCTYPE html>")), "retry", "http_502"),
        (classify(Response(302, {}, b"")), "failed", "http_302"),
    ],
)
def test_what_an_answer_means(verdict: Verdict, status: str, reason: str) -> None:
    assert (verdict.outcome.status, verdict.outcome.reason) == (status, reason)


def test_only_a_refused_access_token_is_renewed() -> None:
    assert answer(401, "UNAUTHENTICATED").token_refused
    assert not answer(401, "UNAUTHENTICATED", fcm("THIRD_PARTY_AUTH_ERROR")).token_refused
    assert not answer(403, "PERMISSION_DENIED").token_refused


def test_retry_after_is_honoured() -> None:
    verdict = answer(503, "UNAVAILABLE", fcm("UNAVAILABLE"), retry_after="17")
    assert verdict.outcome.retry_after_s == 17.0
    verdict = answer(503, "UNAVAILABLE", retry_after="999999999")
    assert verdict.outcome.retry_after_s == 3600.0
    assert answer(503, "UNAVAILABLE", retry_after="soon").outcome.retry_after_s == 2.0


def test_a_quota_of_the_project_is_not_one_of_a_device() -> None:
    assert answer(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED")).quota_exceeded
    one = {"@type": QUOTA, "violations": [{"subject": "device", "description": "too many"}]}
    assert not answer(429, "RESOURCE_EXHAUSTED", one, fcm("QUOTA_EXCEEDED")).quota_exceeded


@given(st.integers(200, 599), st.binary(max_size=60) | st.text().map(str.encode))
def test_no_answer_is_too_strange(status: int, body: bytes) -> None:
    outcome = classify(Response(status, {}, body)).outcome
    assert outcome.status == "accepted" if status == 200 else outcome.status != "dead"


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "details",
                    "status",
                    "errorCode",
                    "@type",
                    "violations",
                    "fieldViolations",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from([400, 401, 404, 429, 500]), _JSON)
def test_no_json_is_too_strange(status: int, content: Any) -> None:
    classify(Response(status, {}, json.dumps(content).encode()))
    classify(Response(status, {}, json.dumps({"error": content}).encode()))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_project_that_sent_too_much_waits_longer_each_time() -> None:
    clock = Clock()
    quotas = Quotas(clock)
    assert quotas.wait_s("one") is None
    expected = FIRST_PAUSE_S
    for _ in range(6):
        first = quotas.exceeded("one", None)
        assert expected <= first <= expected * 1.25
        # The others of the same batch are refused, too: one pause, not a doubled one.
        assert quotas.exceeded("one", None) <= expected * 1.25
        clock.now += expected - 1
        wait_s = quotas.wait_s("one")
        assert wait_s is not None and 1.0 <= wait_s <= 1.25
        assert quotas.wait_s("two") is None
        clock.now += 1
        assert quotas.wait_s("one") is None
        expected = min(expected * 2, LONGEST_PAUSE_S)
    quotas.accepted("one")
    assert quotas.exceeded("one", None) <= FIRST_PAUSE_S * 1.25


def test_a_pause_is_as_long_as_google_says() -> None:
    clock = Clock()
    quotas = Quotas(clock)
    assert 7.0 <= quotas.exceeded("one", 7.0) <= 8.75
    # What was on its way before the pause and is accepted now doesn't end it.
    quotas.accepted("one")
    assert quotas.wait_s("one") is not None


def test_jitter_spreads_those_who_come_back() -> None:
    quotas = Quotas(Clock())
    assert len({quotas.exceeded("one", None) for _ in range(20)}) > 10


def sent(payload: Any, **changes: Any) -> Notification:
    given: dict[str, Any] = {
        "id": "0" * 36,
        "app": "com.example.mail",
        "token": "a" * 40,
        "push_type": "alert",
        "priority": 10,
        "expiration": 0,
        "collapse_id": "",
        "payload": json.dumps(payload, ensure_ascii=False).encode(),
    }
    return Notification(**given | changes)


def test_the_message() -> None:
    asked = sent({"data": {"v": "1"}}, expiration=1_000_060, collapse_id="badge", priority=5)
    assert message(asked, 1_000_000.9) == {
        "data": {"v": "1"},
        "android": {
            "priority": "NORMAL",
            "ttl": "59s",
            "restricted_package_name": "com.example.mail",
            "collapse_key": "badge",
        },
    }


@pytest.mark.parametrize(
    ("expiration", "ttl"), [(0, "0s"), (999, "0s"), (1060, "60s"), (2**32 - 1, "2419200s")]
)
def test_the_time_to_live(expiration: int, ttl: str) -> None:
    assert message(sent({"data": {}}, expiration=expiration), 1000.0)["android"]["ttl"] == ttl


@pytest.mark.parametrize(("collapse_id", "priority"), [("", 5), ("item", 10)])
def test_what_must_arrive_one_by_one_has_no_collapse_key(collapse_id: str, priority: int) -> None:
    asked = sent({"data": {}}, collapse_id=collapse_id, priority=priority)
    assert "collapse_key" not in message(asked, 0.0)["android"]


def test_the_limit_is_on_the_bytes_of_keys_and_values() -> None:
    assert message(sent({"data": {"key": "ü" * 2046, "a": ""}}), 0.0)
    with pytest.raises(Unsendable, match="PayloadTooLarge"):
        message(sent({"data": {"key": "ü" * 2046, "ab": ""}}), 0.0)


@pytest.mark.parametrize(
    "payload",
    [
        {"aps": {}},
        {"data": {"v": 1}},
        {"data": []},
        {"data": {"from": "x"}},
        {"data": {"google.x": "x"}},
        {"data": {"gcm": "x"}},
        {"data": {}, "notification": {"title": "x"}},
        [],
    ],
)
def test_what_is_no_data_is_not_sent(payload: Any) -> None:
    with pytest.raises(Unsendable, match="payload_malformed"):
        message(sent(payload), 0.0)
