"""The SNS provider against moto's server over a real socket; what boto3 must not look at."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from apps.relay.providers import CredentialsUnfit, Notification, OpenApp, Outcome
from apps.relay.providers.sns.account import SnsAccount
from apps.relay.providers.sns.check import Wanted, check
from apps.relay.providers.sns.endpoints import Endpoints
from apps.relay.providers.sns.provider import SnsProvider
from apps.relay.uploads import WORDS
from tests.relay.sns_server import KEY_ID, REGION, SECRET, SnsServer

ROOT = Path(__file__).resolve().parents[2]
APP = "com.example.mail"
IOS_TOKEN = "ab" * 32
ALERT = {"aps": {"alert": {"title": "Änna"}, "badge": 1}}
DATA = {"data": {"v": "1", "title": "Änna"}}


@pytest.fixture(scope="module")
def server() -> Iterator[SnsServer]:
    made = SnsServer()
    yield made
    made.stop()


@pytest.fixture
def sns(server: SnsServer) -> Iterator[SnsServer]:
    server.calls.clear()
    yield server
    server.trouble = None


@pytest.fixture
def provider(sns: SnsServer) -> Iterator[SnsProvider]:
    made = SnsProvider(sns.url)
    yield made
    made._pool.shutdown()


@pytest.fixture
def account(sns: SnsServer) -> SnsAccount:
    return sns.application("APNS", f"mail-{uuid4()}")


@pytest.fixture
def app(account: SnsAccount) -> OpenApp:
    return opened(account)


def opened(account: SnsAccount, pk: int = 1, revision: str = "first") -> OpenApp:
    return OpenApp(pk, APP, False, account.dump(), revision)


def push(token: str, payload: Any = ALERT, **changes: Any) -> Notification:
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "app": APP,
        "token": token,
        "push_type": "alert",
        "priority": 10,
        "expiration": int(time.time()) + 600,
        "collapse_id": "item-1",
        "payload": json.dumps(payload, ensure_ascii=False).encode(),
    }
    return Notification(**given | changes)


def fresh_token() -> str:
    return uuid4().hex * 2


async def send(provider: SnsProvider, app: OpenApp, *pushes: Notification) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}

    def done(notification: Notification, outcome: Outcome) -> None:
        assert notification.id not in outcomes
        outcomes[notification.id] = outcome

    await provider.send(app, pushes, done)
    return [outcomes[each.id] for each in pushes]


def attributes(call: dict[str, str]) -> dict[str, str]:
    prefix = "MessageAttributes.entry"
    numbers = {key.split(".")[2] for key in call if key.startswith(prefix)}
    return {
        call[f"{prefix}.{n}.Name"].removeprefix("AWS.SNS.MOBILE."): call[
            f"{prefix}.{n}.Value.StringValue"
        ]
        for n in numbers
    }


async def test_a_push_for_ios_has_apples_headers_as_attributes(
    sns: SnsServer, provider: SnsProvider, app: OpenApp
) -> None:
    assert await send(provider, app, push(fresh_token())) == [Outcome("accepted")]
    (call,) = sns.asked("Publish")
    assert call["MessageStructure"] == "json"
    message = json.loads(call["Message"])
    assert list(message) == ["APNS"]
    assert json.loads(message["APNS"]) == ALERT
    found = attributes(call)
    assert 590 <= int(found.pop("APNS.TTL")) <= 600
    assert found == {
        "APNS.PUSH_TYPE": "alert",
        "APNS.PRIORITY": "10",
        "APNS.TOPIC": APP,
        "APNS.COLLAPSE_ID": "item-1",
    }


async def test_the_sandbox_has_a_name_of_its_own(sns: SnsServer, provider: SnsProvider) -> None:
    app = opened(sns.application("APNS_SANDBOX"))
    wake_up = {"aps": {"content-available": 1}}
    sent = push(
        fresh_token(), wake_up, push_type="background", priority=5, collapse_id="", expiration=0
    )
    assert await send(provider, app, sent) == [Outcome("accepted")]
    (call,) = sns.asked("Publish")
    assert json.loads(json.loads(call["Message"])["APNS_SANDBOX"]) == wake_up
    assert attributes(call) == {
        "APNS.PUSH_TYPE": "background",
        "APNS.PRIORITY": "5",
        "APNS.TOPIC": APP,
        "APNS_SANDBOX.TTL": "0",
    }


async def test_a_push_for_android_is_a_data_message(sns: SnsServer, provider: SnsProvider) -> None:
    app = opened(sns.application("GCM"))
    badge = push(fresh_token(), DATA, priority=5, collapse_id="badge", expiration=0)
    too_large = push(fresh_token(), {"data": {"k": "x" * 4096}})
    assert await send(provider, app, badge, too_large, push(fresh_token(), ALERT)) == [
        Outcome("accepted"),
        Outcome("failed", "PayloadTooLarge"),
        Outcome("failed", "payload_malformed"),
    ]
    (call,) = sns.asked("Publish")
    content = json.loads(json.loads(call["Message"])["GCM"])
    assert content == {
        "fcmV1Message": {
            "message": {
                "data": DATA["data"],
                "android": {
                    "priority": "NORMAL",
                    "ttl": "0s",
                    "restricted_package_name": APP,
                    "collapse_key": "badge",
                },
            }
        }
    }
    assert attributes(call) == {"FCM.TTL": "0"}


async def test_a_tokens_endpoint_is_asked_for_once(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, account: SnsAccount
) -> None:
    token = fresh_token()
    for _ in range(3):
        assert await send(provider, app, push(token)) == [Outcome("accepted")]
    assert len(sns.asked("CreatePlatformEndpoint")) == 1
    assert [each["Token"] for each in sns.endpoints(account).values()] == [token]
    # After a restart it is asked for again, and is the same one.
    again = SnsProvider(sns.url)
    assert await send(again, app, push(token)) == [Outcome("accepted")]
    again._pool.shutdown()
    assert len(sns.endpoints(account)) == 1


async def test_an_endpoint_that_others_made_is_used(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, account: SnsAccount
) -> None:
    token = fresh_token()
    made = sns.admin.create_platform_endpoint(
        PlatformApplicationArn=account.application_arn, Token=token, CustomUserData="theirs"
    )["EndpointArn"]
    assert await send(provider, app, push(token)) == [Outcome("accepted")]
    assert sns.asked("Publish")[-1]["TargetArn"] == made


@pytest.mark.parametrize("known", [True, False])
async def test_a_disabled_endpoint_retires_the_token(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, account: SnsAccount, known: bool
) -> None:
    token, other = fresh_token(), fresh_token()
    if known:
        await send(provider, app, push(token))
    client = sns.admin
    endpoint = client.create_platform_endpoint(
        PlatformApplicationArn=account.application_arn, Token=token
    )["EndpointArn"]
    client.set_endpoint_attributes(EndpointArn=endpoint, Attributes={"Enabled": "false"})
    outcomes = await send(provider, app, push(token), push(other))
    assert outcomes == [Outcome("dead", "EndpointDisabled"), Outcome("accepted")]
    # Should the phone come back with this token, it finds no disabled endpoint.
    assert endpoint not in sns.endpoints(account)
    assert await send(provider, app, push(token)) == [Outcome("accepted")]


@pytest.mark.parametrize(
    "refusal",
    [None, (400, "InvalidParameter", "Invalid parameter: TargetArn Reason: No endpoint found")],
)
async def test_an_endpoint_that_others_deleted_is_made_anew(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, account: SnsAccount, refusal: Any
) -> None:
    token = fresh_token()
    await send(provider, app, push(token))
    (endpoint,) = sns.endpoints(account)
    sns.admin.delete_endpoint(EndpointArn=endpoint)
    # In Amazon's words, which moto doesn't use.
    sns.trouble = lambda call: refusal if call.get("TargetArn") == endpoint else None
    assert await send(provider, app, push(token)) == [Outcome("accepted")]
    assert list(sns.endpoints(account)) != [endpoint]


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (400, "Throttled", "Rate exceeded", Outcome("retry", "Throttled", None, 10.0)),
        (400, "ThrottlingException", "Rate exceeded", Outcome("retry", "Throttling", None, 10.0)),
        (500, "InternalError", "", Outcome("retry", "InternalError", None, 2.0)),
        (503, "ServiceUnavailable", "", Outcome("retry", "ServiceUnavailable", None, 2.0)),
        (403, "AuthorizationError", "", Outcome("failed", "AuthorizationError", ours_to_fix=True)),
        (
            403,
            "InvalidClientTokenId",
            "",
            Outcome("failed", "InvalidClientTokenId", ours_to_fix=True),
        ),
        (
            400,
            "PlatformApplicationDisabled",
            "",
            Outcome("failed", "PlatformApplicationDisabled", ours_to_fix=True),
        ),
        (400, "InvalidParameter", "Message too long", Outcome("failed", "InvalidParameter")),
        (400, "&lt;odd&gt; code", "", Outcome("failed", "http_400")),
    ],
)
async def test_what_a_refusal_means(
    sns: SnsServer,
    provider: SnsProvider,
    app: OpenApp,
    status: int,
    code: str,
    message: str,
    expected: Outcome,
) -> None:
    sns.trouble = lambda call: (status, code, message) if call.get("Action") == "Publish" else None
    assert await send(provider, app, push(fresh_token())) == [expected]
    # Repeating is the caller's business.
    assert len(sns.asked("Publish")) == 1


async def test_what_is_no_token_is_dead(
    sns: SnsServer, provider: SnsProvider, app: OpenApp
) -> None:
    words = "Invalid parameter: Token Reason: iOS device tokens must be hexadecimal characters"
    sns.trouble = lambda call: (
        (400, "InvalidParameter", words) if call.get("Action") == "CreatePlatformEndpoint" else None
    )
    assert await send(provider, app, push(fresh_token())) == [Outcome("dead", "InvalidParameter")]


async def test_when_sns_is_away_all_try_again(account: SnsAccount) -> None:
    provider = SnsProvider("http://127.0.0.1:9")
    (outcome,) = await send(provider, opened(account), push(fresh_token()))
    provider._pool.shutdown()
    assert (outcome.status, outcome.reason) == ("retry", "sns_EndpointConnectionError")


async def test_many_are_sent_side_by_side(
    sns: SnsServer, provider: SnsProvider, app: OpenApp
) -> None:
    def slow(_call: dict[str, str]) -> None:
        time.sleep(0.1)

    sns.trouble = slow
    began = time.monotonic()
    outcomes = await send(provider, app, *(push(fresh_token()) for _ in range(32)))
    # One after the other it would be 6.4 s.
    assert time.monotonic() - began < 3
    assert set(outcomes) == {Outcome("accepted")}


async def test_what_has_no_turn_in_time_is_put_off(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.relay.providers.sns.provider._BEGUN_WITHIN_S", 0.2)
    monkeypatch.setattr(sns, "trouble", lambda _call: time.sleep(0.5))
    outcomes = await send(provider, app, *(push(fresh_token()) for _ in range(40)))
    assert {(o.status, o.reason) for o in outcomes} == {
        ("accepted", ""),
        ("retry", "deadline_exceeded"),
    }


async def test_a_replaced_key_is_used_at_once(
    sns: SnsServer, provider: SnsProvider, account: SnsAccount
) -> None:
    await send(provider, opened(account), push(fresh_token()))
    replaced = replace(account, application_arn=account.application_arn + "-2")
    (outcome,) = await send(provider, opened(replaced, revision="second"), push(fresh_token()))
    assert (outcome.status, outcome.reason) == ("failed", "NotFound")
    assert outcome.ours_to_fix


async def test_no_log_line_holds_a_token_or_what_was_sent(
    sns: SnsServer, provider: SnsProvider, app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = fresh_token()
    await send(provider, app, push(token))
    sns.trouble = lambda _call: (400, "InvalidParameter", f"Token {token}")
    await send(provider, app, push(token))
    assert token not in caplog.text
    assert "Änna" not in caplog.text
    assert SECRET not in caplog.text + repr(app) + repr(SnsAccount.load(app.credentials))


def test_endpoints_are_remembered_up_to_a_bound() -> None:
    endpoints = Endpoints(most=2)
    endpoints.keep("app", "a", "arn-a")
    endpoints.keep("app", "b", "arn-b")
    assert endpoints.get("app", "a") == "arn-a"
    endpoints.keep("app", "c", "arn-c")
    assert [endpoints.get("app", token) for token in "abc"] == ["arn-a", None, "arn-c"]
    assert endpoints.get("other app", "a") is None
    endpoints.forget("app", "a")
    assert endpoints.get("app", "a") is None


_ELSEWHERE = """
import os, sys
from apps.relay.providers.sns.account import SnsAccount
from apps.relay.providers.sns.client import make_client
account = SnsAccount(*sys.argv[2:7])
client = make_client(account, sys.argv[1])
found = client.get_platform_application_attributes(PlatformApplicationArn=account.application_arn)
print(sorted(found["Attributes"]), make_client(account).meta.endpoint_url)
"""


def test_boto3_looks_at_nothing_it_was_not_told(
    sns: SnsServer, account: SnsAccount, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".aws" / "models" / "sns" / "2010-03-31").mkdir(parents=True)
    (home / ".aws" / "models" / "sns" / "2010-03-31" / "service-2.json").write_text("{}")
    config = "[default]\nendpoint_url = http://127.0.0.1:9\nregion = xx-nowhere-1\n"
    (home / ".aws" / "config").write_text(config)
    (home / ".aws" / "credentials").write_text("not even a file of Amazon's [")
    nowhere = "http://127.0.0.1:9"
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "AWS_PROFILE": "nobody",
        "AWS_ACCESS_KEY_ID": "of-somebody-else",
        "AWS_SESSION_TOKEN": "of-somebody-else",
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ENDPOINT_URL_SNS": nowhere,
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_DATA_PATH": str(home / ".aws" / "models"),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"), nowhere),
    }
    words = (account.region, account.access_key_id, account.application_arn, account.service)
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, sns.url, *words, account.secret_access_key],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"https://sns.{REGION}.amazonaws.com")


# --- what may be uploaded ---

WANTED = Wanted(APP, "apns", sandbox=False)


def upload(account: SnsAccount, **changes: Any) -> bytes:
    content = {
        "region": account.region,
        "access_key_id": account.access_key_id,
        "secret_access_key": account.secret_access_key,
        "platform_application_arn": account.application_arn,
    }
    return json.dumps(content | changes).encode()


def refusal(sent: bytes, server: SnsServer, wanted: Wanted = WANTED) -> str:
    with pytest.raises(CredentialsUnfit) as caught:
        check(sent, wanted, server.url)
    assert caught.value.code in WORDS
    return caught.value.code


def test_a_key_that_sees_the_application_is_taken(sns: SnsServer, account: SnsAccount) -> None:
    checked = check(upload(account), WANTED, sns.url)
    assert SnsAccount.load(checked.credentials) == account
    assert checked.expires_at is None
    assert checked.summary["verified"] == "yes"
    assert SECRET not in repr(checked) + str(checked.summary)
    assert sns.asked("GetPlatformApplicationAttributes")


def test_what_amazon_knows_of_the_application_is_used(sns: SnsServer, account: SnsAccount) -> None:
    client = sns.admin
    for name, value in (
        ("AppleCertificateExpiryDate", "2027-03-01T12:00:00Z"),
        ("ApplePlatformBundleID", APP),
    ):
        client.set_platform_application_attributes(
            PlatformApplicationArn=account.application_arn, Attributes={name: value}
        )
    expires_at = check(upload(account), WANTED, sns.url).expires_at
    assert expires_at is not None and expires_at.isoformat() == "2027-03-01T12:00:00+00:00"
    other = replace(WANTED, app="com.example.other")
    assert refusal(upload(account), sns, other) == "platform_application_of_another_app"
    client.set_platform_application_attributes(
        PlatformApplicationArn=account.application_arn, Attributes={"Enabled": "false"}
    )
    assert refusal(upload(account), sns) == "platform_application_disabled"


def test_without_a_way_to_amazon_the_form_alone_is_checked(account: SnsAccount) -> None:
    assert check(upload(account), WANTED, "http://127.0.0.1:9").summary["verified"] == "no"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"region": "evil.example/"}, "region_malformed"),
        ({"region": None}, "region_malformed"),
        ({"access_key_id": "a\r\nb"}, "access_key_id_malformed"),
        ({"secret_access_key": ""}, "secret_access_key_malformed"),
        ({"platform_application_arn": "arn:aws:s3:::x"}, "platform_application_arn_malformed"),
        ({"region": "us-east-1"}, "platform_application_of_another_region"),
        (
            {"platform_application_arn": f"arn:aws:sns:{REGION}:123456789012:app/APNS/gone"},
            "platform_application_not_found",
        ),
    ],
)
def test_what_is_not_fit_is_refused(
    sns: SnsServer, account: SnsAccount, change: dict[str, Any], code: str
) -> None:
    assert refusal(upload(account, **change), sns) == code


@pytest.mark.parametrize("wanted", [replace(WANTED, platform="fcm"), replace(WANTED, sandbox=True)])
def test_an_application_of_another_platform_is_refused(
    sns: SnsServer, account: SnsAccount, wanted: Wanted
) -> None:
    assert refusal(upload(account), sns, wanted) == "platform_application_of_another_platform"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AuthorizationError", "sns_access_denied"),
        ("InvalidClientTokenId", "sns_key_refused"),
        ("SignatureDoesNotMatch", "sns_key_refused"),
    ],
)
def test_a_key_that_amazon_refuses_is_refused(
    sns: SnsServer, account: SnsAccount, code: str, expected: str
) -> None:
    sns.trouble = lambda _call: (403, code, "no")
    assert refusal(upload(account), sns) == expected


@pytest.mark.parametrize("sent", [b"", b"[]", b"\xff", b"{" * 3000])
def test_what_is_no_json_object_is_refused(sns: SnsServer, sent: bytes) -> None:
    assert refusal(sent, sns) == "sns_not_json"


def test_what_is_too_large_is_not_even_read(sns: SnsServer) -> None:
    assert refusal(b"{}" + b" " * 10_000, sns) == "sns_too_large"
    assert KEY_ID not in refusal(b"{}", sns)
