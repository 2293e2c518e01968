"""The FCM provider against the pretend FCM: HTTP/2, access tokens, refusals, troubles."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from apps.lab.ca import LabCa
from apps.lab.fcm import FcmFault, LabFcm
from apps.relay.providers import Notification, OpenApp, Outcome
from apps.relay.providers.fcm import token as access_token
from apps.relay.providers.fcm.check import check
from apps.relay.providers.fcm.provider import FcmProvider

APP, PROJECT = "com.example.mail", "lab-mail-1"


@pytest.fixture
async def fcm(tmp_path: Path) -> AsyncIterator[LabFcm]:
    server = LabFcm(LabCa(tmp_path))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def provider(fcm: LabFcm) -> AsyncIterator[FcmProvider]:
    made = FcmProvider(fcm.url, fcm.token_url, fcm.ca_pem)
    yield made
    await close(made)


@pytest.fixture
def app(fcm: LabFcm) -> OpenApp:
    checked = check(fcm.new_account(PROJECT).file.encode())
    return OpenApp(1, APP, False, checked.credentials, "first")


@pytest.fixture
def token(fcm: LabFcm) -> str:
    return fcm.register(APP, PROJECT)


async def close(provider: FcmProvider) -> None:
    await provider._client.close()
    await provider._tokens._client.close()


def push(token: str, **changes: Any) -> Notification:
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "app": APP,
        "token": token,
        "push_type": "alert",
        "priority": 10,
        "expiration": int(time.time()) + 3600,
        "collapse_id": "",
        "payload": json.dumps({"data": {"v": "1", "title": "Über uns"}}).encode(),
    }
    return Notification(**given | changes)


async def send(provider: FcmProvider, app: OpenApp, *pushes: Notification) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}

    def done(notification: Notification, outcome: Outcome) -> None:
        assert notification.id not in outcomes
        outcomes[notification.id] = outcome

    await provider.send(app, pushes, done)
    return [outcomes[each.id] for each in pushes]


async def test_a_message_reaches_the_phone(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    outcomes = await send(provider, app, push(token, priority=5, collapse_id="badge"))
    assert outcomes == [Outcome("accepted")]
    (arrival,) = fcm.phones.arrivals(token)
    assert arrival.message.data == {"v": "1", "title": "Über uns"}
    assert (arrival.message.package, arrival.message.collapse_key) == (APP, "badge")
    assert arrival.message.priority == "NORMAL"
    assert 3590 <= arrival.message.ttl_s <= 3600


async def test_a_batch_shares_connections_and_one_access_token(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    fcm.order(FcmFault(times=500, delay_s=0.3))
    began = time.monotonic()
    outcomes = await send(provider, app, *(push(token) for _ in range(500)))
    # One after the other it would be 150 s.
    assert time.monotonic() - began < 7
    assert set(outcomes) == {Outcome("accepted")}
    assert fcm.accounts.issued == 1
    assert fcm.connections_opened <= 4
    assert len(fcm.phones.arrivals(token)) == 500


async def test_every_message_has_an_outcome_of_its_own(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    gone, foreign = fcm.register(APP, PROJECT), fcm.register(APP, "another-project")
    other_app = fcm.register("com.example.other", PROJECT)
    fcm.phones.unregister(gone)
    too_large = json.dumps({"data": {"k": "x" * 4096}}).encode()
    outcomes = await send(
        provider,
        app,
        push(token),
        push(gone),
        push(foreign),
        push("never-registered-" + "a" * 50),
        push(other_app),
        push(token, payload=too_large),
        push(token, payload=b'{"data": {"k": 1}}'),
    )
    assert [(o.status, o.reason) for o in outcomes] == [
        ("accepted", ""),
        ("dead", "UNREGISTERED"),
        ("dead", "SENDER_ID_MISMATCH"),
        ("dead", "INVALID_ARGUMENT"),
        ("failed", "INVALID_ARGUMENT"),
        ("failed", "PayloadTooLarge"),
        ("failed", "payload_malformed"),
    ]
    assert len(fcm.phones.arrivals(token)) == 1


async def test_the_largest_message_goes_through(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    for filler in ("x" * 4093, '"' * 4093, "ü" * 2046, "\N{MAHJONG TILE RED DRAGON}" * 1023):
        payload = json.dumps({"data": {"key": filler}}, ensure_ascii=False).encode()
        assert await send(provider, app, push(token, payload=payload)) == [Outcome("accepted")]
    assert len(fcm.phones.arrivals(token)) == 4


async def test_an_access_token_that_is_refused_is_renewed_once(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    await send(provider, app, push(token))
    fcm.accounts.revoke_tokens()
    outcomes = await send(provider, app, *(push(token) for _ in range(20)))
    assert set(outcomes) == {Outcome("accepted")}
    assert fcm.accounts.issued == 2
    fcm.order(FcmFault("refuse", times=100, reason="UNAUTHENTICATED"))
    (outcome,) = await send(provider, app, push(token))
    assert (outcome.status, outcome.reason) == ("failed", "UNAUTHENTICATED")
    assert outcome.ours_to_fix
    assert fcm.accounts.issued == 3


async def test_an_access_token_is_renewed_before_it_expires(
    fcm: LabFcm,
    provider: FcmProvider,
    app: OpenApp,
    token: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await send(provider, app, push(token))
    # As if all but five minutes of the hour had passed.
    monkeypatch.setattr(access_token, "_RENEWED_BEFORE_S", 3600.0)
    kept = provider._tokens._kept[app.pk, app.revision]
    provider._tokens._kept[app.pk, app.revision] = replace(kept, until=time.monotonic() - 1)
    outcomes = await asyncio.gather(*(send(provider, app, push(token)) for _ in range(10)))
    assert outcomes == [[Outcome("accepted")]] * 10
    assert fcm.accounts.issued == 2


async def test_a_replaced_account_has_a_token_of_its_own(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    await send(provider, app, push(token))
    checked = check(fcm.new_account(PROJECT).file.encode())
    second = replace(app, credentials=checked.credentials, revision="second")
    assert await send(provider, second, push(token)) == [Outcome("accepted")]
    assert fcm.accounts.issued == 2
    assert list(provider._tokens._kept) == [(1, "second")]


async def test_an_account_google_does_not_know_is_ours_to_fix(
    fcm: LabFcm, provider: FcmProvider, token: str, tmp_path: Path
) -> None:
    stranger = LabFcm(LabCa(tmp_path)).new_account(PROJECT)
    app = OpenApp(2, APP, False, check(stranger.file.encode()).credentials, "r")
    for _ in range(2):
        (outcome,) = await send(provider, app, push(token))
        assert (outcome.status, outcome.reason) == ("failed", "token_invalid_grant")
        assert outcome.ours_to_fix
    # Not asked again by the next batch.
    assert sum(fcm.answers.values()) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (FcmFault("refuse", reason="internal_failure", place="token"), "token_internal_failure"),
        (FcmFault("drop", place="token"), "token_connection_lost"),
        (
            FcmFault("refuse", reason="internal_failure", place="token", body="<html>"),
            "token_http_500",
        ),
    ],
)
async def test_without_an_access_token_all_try_again(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str, fault: FcmFault, reason: str
) -> None:
    # libcurl itself tries once more where a connection was lost.
    fault.times = 2
    fcm.order(fault)
    outcomes = await send(provider, app, push(token), push(token))
    assert {(o.status, o.reason) for o in outcomes} == {("retry", reason)}
    assert not fcm.phones.arrivals(token)


@pytest.mark.parametrize(
    ("reason", "status"),
    [("UNAVAILABLE", "retry"), ("INTERNAL", "retry"), ("THIRD_PARTY_AUTH_ERROR", "failed")],
)
async def test_a_trouble_of_one_message_is_none_of_the_others(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str, reason: str, status: str
) -> None:
    fcm.order(FcmFault("refuse", reason=reason, retry_after_s=7))
    outcomes = await send(provider, app, push(token), push(token))
    (bad,) = [o for o in outcomes if o.status != "accepted"]
    assert (bad.status, bad.reason) == (status, reason)
    assert bad.retry_after_s == (7.0 if status == "retry" else None)


async def test_a_project_over_its_quota_is_left_alone(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    fcm.order(FcmFault("refuse", reason="QUOTA_EXCEEDED"))
    (first,) = await send(provider, app, push(token))
    assert (first.status, first.reason) == ("retry", "QUOTA_EXCEEDED")
    assert first.retry_after_s is not None and 60 <= first.retry_after_s <= 75
    asked = sum(fcm.answers.values())
    outcomes = await send(provider, app, *(push(token) for _ in range(50)))
    assert {(o.status, o.reason) for o in outcomes} == {("retry", "QUOTA_EXCEEDED")}
    assert sum(fcm.answers.values()) == asked
    # Another project is not its neighbour's keeper.
    account = check(fcm.new_account("lab-mail-2").file.encode())
    other = OpenApp(2, APP, False, account.credentials, "r")
    theirs = push(fcm.register(APP, "lab-mail-2"))
    assert await send(provider, other, theirs) == [Outcome("accepted")]


async def test_after_the_time_google_names_it_goes_on(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str
) -> None:
    fcm.order(FcmFault("refuse", reason="QUOTA_EXCEEDED", retry_after_s=1))
    (first,) = await send(provider, app, push(token))
    assert first.retry_after_s is not None and 1 <= first.retry_after_s <= 1.25
    await asyncio.sleep(1.05)
    assert await send(provider, app, push(token)) == [Outcome("accepted")]


@pytest.mark.parametrize("action", ["drop", "goaway"])
async def test_a_broken_connection_loses_nothing(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str, action: Any
) -> None:
    await send(provider, app, push(token))
    fcm.order(FcmFault(action, times=3))
    waiting = [push(token) for _ in range(30)]
    for _ in range(10):
        outcomes = await send(provider, app, *waiting)
        assert {o.status for o in outcomes} <= {"accepted", "retry"}
        pairs = zip(waiting, outcomes, strict=True)
        waiting = [each for each, outcome in pairs if outcome.status == "retry"]
        if not waiting:
            break
    assert not waiting
    assert len(fcm.phones.arrivals(token)) >= 31


async def test_one_that_hangs_is_given_up_and_the_others_are_answered(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.relay.providers.fcm.provider._DEADLINE_S", 1.0)
    fcm.order(FcmFault("hang"))
    outcomes = await send(provider, app, *(push(token) for _ in range(10)))
    assert sorted(o.status for o in outcomes) == ["accepted"] * 9 + ["retry"]


async def test_a_connection_that_answers_nothing_any_more_is_left(
    fcm: LabFcm, provider: FcmProvider, app: OpenApp, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(provider, app, push(token))
    before = fcm.connections_opened
    monkeypatch.setattr("apps.relay.providers.fcm.provider._DEADLINE_S", 0.5)
    fcm.order(FcmFault("hang", times=20))
    outcomes = await send(provider, app, *(push(token) for _ in range(20)))
    assert {o.status for o in outcomes} == {"retry"}
    monkeypatch.setattr("apps.relay.providers.fcm.provider._DEADLINE_S", 8.0)
    assert await send(provider, app, push(token)) == [Outcome("accepted")]
    assert fcm.connections_opened == before + 1


async def test_the_environments_proxies_are_ignored(
    fcm: LabFcm, app: OpenApp, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    provider = FcmProvider(fcm.url, fcm.token_url, fcm.ca_pem)
    assert await send(provider, app, push(token)) == [Outcome("accepted")]
    await close(provider)


async def test_a_server_nobody_vouches_for_gets_nothing(
    fcm: LabFcm, app: OpenApp, token: str
) -> None:
    provider = FcmProvider(fcm.url, fcm.token_url)
    (outcome,) = await send(provider, app, push(token))
    assert (outcome.status, outcome.reason) == ("retry", "token_tls_untrusted")
    await close(provider)
