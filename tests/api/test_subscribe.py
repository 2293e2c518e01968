"""subscribe: what is taken, what is refused, and what is left behind."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from django.db import connection
from joserfc.jwk import ECKey

from apps.devices import registry
from apps.devices.models import Device, Mailbox
from apps.eventlog.factory import get_log
from apps.keypairs.models import KeyPair, SealedCredential
from apps.subscriptions.models import Subscription
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants.groups import create_group
from apps.tenants.inherited import override
from apps.tenants.models import MailSystem, OrganizationGroup
from apps.tenants.tokens import issue_token
from tests.api.conftest import BASE, Api, claims


def test_a_device_is_accepted_and_its_join_waits_in_the_log(api: Api) -> None:
    answer = api.subscribe()
    assert answer.status_code == 202, answer.content
    body = answer.json()
    assert set(body) == {"device_id", "device_secret", "state", "poll_seconds", "signing_keys"}
    assert body["state"] == "joining"
    device = Device.objects.get(id=body["device_id"])
    assert device.state == "joining"
    assert Subscription.objects.get(owner=device).state == "pending"
    assert get_log().depth("join") == 1


def test_nothing_personal_stands_in_the_database(api: Api) -> None:
    marks = {"anna.canary@example.com", "Canary\\anna", "canary-password", "ca" * 32}
    api.subscribe(
        email="anna.canary@example.com",
        credentials={"type": "basic", "username": "Canary\\anna", "password": "canary-password"},
        push_token="ca" * 32,
    )
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                text = b" ".join(
                    value if isinstance(value, bytes) else str(value).encode() for value in row
                )
                for mark in marks:
                    assert mark.encode() not in text, table


def test_subscribing_again_replaces_the_device_and_its_secret(api: Api) -> None:
    first = api.subscribe().json()
    second = api.subscribe().json()
    assert first["device_id"] == second["device_id"]
    assert first["device_secret"] != second["device_secret"]
    asked = {"device_id": first["device_id"]}
    assert api.post("checkin", asked, bearer=first["device_secret"]).status_code == 401
    assert api.post("checkin", asked, bearer=second["device_secret"]).status_code == 200
    assert Subscription.objects.filter(state="pending").count() == 1
    assert SealedCredential.objects.count() == 1


def test_two_devices_of_a_user_share_a_mailbox(api: Api) -> None:
    api.subscribe(push_token="aa" * 32)
    api.subscribe(push_token="bb" * 32, email="ANNA@example.com")
    assert Mailbox.objects.count() == 1
    assert Device.objects.count() == 2


def test_a_jwe_is_opened_once(api: Api) -> None:
    jwe = api.encrypt(claims())
    assert api.post("subscribe", {"jwe": jwe}).status_code == 202
    again = api.post("subscribe", {"jwe": jwe})
    assert (again.status_code, again.json()["code"]) == (400, "jwe_replayed")


def test_a_jwe_that_led_to_a_refusal_is_spent_too(api: Api) -> None:
    jwe = api.encrypt(claims(ews_url="https://elsewhere.example.com/EWS/Exchange.asmx"))
    assert api.post("subscribe", {"jwe": jwe}).json()["code"] == "ews_url_not_allowed"
    assert api.post("subscribe", {"jwe": jwe}).json()["code"] == "jwe_replayed"


def test_a_jwe_to_another_organizations_key_is_unknown_here(api: Api, client: Any) -> None:
    from apps.keypairs import service as keypairs

    other = Api(client, issue_token(create_group("Other"), "test"))
    keypairs.rotate()
    answer = api.post("subscribe", {"jwe": other.encrypt(claims())})
    assert (answer.status_code, answer.json()["code"]) == (400, "jwe_unknown_key")
    assert not Device.objects.exists()


def test_an_expired_key_is_named(api: Api) -> None:
    jwe = api.encrypt(claims())
    from django.utils import timezone

    KeyPair.objects.update(expires_at=timezone.now())
    answer = api.post("subscribe", {"jwe": jwe})
    assert (answer.status_code, answer.json()["code"]) == (400, "jwe_expired_key")


@pytest.mark.parametrize(
    ("jwe", "code"),
    [
        ("", "malformed"),
        ("a.b.c", "jwe_malformed"),
        ("a.b.c.d.e", "jwe_malformed"),
        ("x" * 24576, "jwe_malformed"),
        ("x" * 24577, "malformed"),
    ],
)
def test_what_is_no_jwe_is_refused(api: Api, jwe: str, code: str) -> None:
    answer = api.post("subscribe", {"jwe": jwe})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_forbidden_headers_are_refused(api: Api) -> None:
    answer = api.post("subscribe", {"jwe": api.encrypt(claims(), zip="DEF")})
    assert (answer.status_code, answer.json()["code"]) == (400, "jwe_header_forbidden")


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/EWS/Exchange.asmx",
        "http://mail.example.com/EWS/Exchange.asmx",
        "https://127.0.0.1/EWS/Exchange.asmx",
        "https://localhost/EWS/Exchange.asmx",
        "https://[::1]/EWS/Exchange.asmx",
        "https://[::ffff:127.0.0.1]/EWS/Exchange.asmx",
        "https://2130706433/EWS/Exchange.asmx",
        "https://0x7f.1/EWS/Exchange.asmx",
        "https://169.254.169.254/latest/meta-data",
        "https://mail.example.com@evil.example/EWS/Exchange.asmx",
        "https://mail.example.com:444/EWS/Exchange.asmx",
        "https://mail.example.com.evil.example/",
        "file:///etc/passwd",
        "gopher://mail.example.com/",
    ],
)
def test_ews_urls_outside_the_mail_systems_are_refused_at_once(api: Api, url: str) -> None:
    answer = api.subscribe(ews_url=url)
    assert (answer.status_code, answer.json()["code"]) == (400, "ews_url_not_allowed")
    assert not Device.objects.exists()
    assert get_log().depth("join") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "no address"},
        {"email": None},
        {"push_token": "zz" * 32},
        {"push_token": "ab"},
        {"platform": "symbian"},
        {"app_id": "../etc"},
        {"credentials": {"type": "basic", "username": "a:b", "password": "c"}},
        {"credentials": {"type": "magic"}},
        {"time_zone": "Mars/Olympus"},
        {"content_key": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        {"surprise": 1},
        {"wishes": {"content": "everything"}},
    ],
)
def test_claims_that_make_no_sense_are_refused_without_being_repeated(
    api: Api, changes: dict[str, Any]
) -> None:
    answer = api.subscribe(**changes)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    for value in changes.values():
        assert not isinstance(value, str) or value not in answer.content.decode()
    assert not Device.objects.exists()


def test_a_private_content_key_is_refused_and_a_public_one_kept(api: Api) -> None:
    key = ECKey.generate_key("P-256")
    assert api.subscribe(content_key=key.as_dict(private=True)).status_code == 400
    assert api.subscribe(content_key=key.as_dict(private=False)).status_code == 202
    assert "x" in Device.objects.get().content_key


@pytest.mark.parametrize("off_by", [-700, 700])
def test_a_stale_jwe_is_refused(api: Api, off_by: int) -> None:
    assert api.subscribe(iat=int(time.time()) + off_by).json()["code"] == "jwe_stale"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"jwe":"a","jwe":"b"}', 400),
        (b'{"jwe": NaN}', 400),
        (b"[" * 30000, 400),
        (b'{"jwe": "' + b"x" * 40000 + b'"}', 413),
    ],
)
def test_bodies_that_are_no_small_json_object_are_refused(
    api: Api, body: bytes, status: int
) -> None:
    answer = api.post("subscribe", body)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"


def test_one_address_can_not_try_one_user_for_ever_but_a_roll_out_passes(api: Api) -> None:
    for number in range(20):
        assert api.subscribe(push_token=f"{number:064x}").status_code == 202
    refused = api.subscribe(push_token="ff" * 32)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert int(refused["Retry-After"]) > 0
    assert api.subscribe(email="ben@example.com").status_code == 202


def test_forwarded_headers_count_from_listed_proxies_only(api: Api) -> None:
    for number in range(20):
        assert api.subscribe(push_token=f"{number:064x}").status_code == 202
    jwe = api.encrypt(claims(push_token="ff" * 32))
    answer = api.client.post(
        BASE + "subscribe",
        {"jwe": jwe},
        content_type="application/json",
        headers={"authorization": f"Bearer {api.token}", "x-forwarded-for": "203.0.113.9"},
    )
    assert answer.status_code == 429


def test_a_fault_of_ours_says_nothing_of_itself(api: Api, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret-in-a-traceback")

    monkeypatch.setattr("apps.api.views.joining.begin", fail)
    answer = api.subscribe(jti=str(uuid.uuid4()))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert b"secret-in-a-traceback" not in answer.content


ANDROID = {
    "platform": "android",
    "app_id": "com.example.mail_app",
    "push_token": "dQw4w9WgXcQ:APA91b" + "Xy_-." * 30,
}


def test_an_android_phone_may_join_with_its_own_kinds_of_names(api: Api) -> None:
    assert api.subscribe(**ANDROID).status_code == 202
    device = Device.objects.get()
    assert (device.platform, registry.push_token(device)) == ("android", ANDROID["push_token"])


@pytest.mark.parametrize(
    ("platform", "member", "value"),
    [
        ("ios", "push_token", ANDROID["push_token"]),
        ("ios", "app_id", ANDROID["app_id"]),
        ("android", "push_token", "x" * 5000),
        ("android", "push_token", "a b" * 30),
        ("android", "app_id", "nodots"),
        ("android", "app_id", "com.1example"),
        ("android", "app_id", "com.example." + "x" * 150),
    ],
)
def test_names_of_another_platform_are_refused(
    api: Api, platform: str, member: str, value: str
) -> None:
    good = ANDROID if platform == "android" else {}
    answer = api.subscribe(**(good | {member: value}))
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert member in answer.json()["detail"]


def test_where_email_notification_is_off_nobody_joins(api: Api, og: OrganizationGroup) -> None:
    override(og, SubscriptionSettings, enabled=False)
    answer = api.subscribe()
    assert (answer.status_code, answer.json()["code"]) == (403, "not_enabled")
    assert not Device.objects.exists()


def test_the_accounts_of_the_app_are_kept_as_hmacs_until_it_has_proved_one(api: Api) -> None:
    ben = registry.user_id("ben@example.com")
    assert api.subscribe(accounts=[ben]).status_code == 202
    device = Device.objects.get()
    assert set(device.accounts or ()) == {
        registry.user_hmac("anna@example.com"),
        registry.user_hmac("ben@example.com"),
    }
    assert ben not in str(device.accounts)
    assert api.subscribe(accounts=["ben@example.com"]).status_code == 400


class TestWithoutAnEwsUrl:
    def test_the_default_serves(self, api: Api) -> None:
        assert api.subscribe(ews_url=None).status_code == 202
        assert Device.objects.get().ews_url == "https://mail.example.com/EWS/Exchange.asmx"

    def test_else_a_worker_finds_it(self, api: Api) -> None:
        MailSystem.objects.update(default_ews_url="", smtp_domains=["example.com"])
        assert api.subscribe(ews_url=None).status_code == 202
        assert Device.objects.get().ews_url == ""
        assert Subscription.objects.get().ews_url == ""

    def test_there_is_no_way_to_find_it(self, api: Api) -> None:
        MailSystem.objects.update(default_ews_url="", autodiscover=False)
        answer = api.subscribe(ews_url=None)
        assert (answer.status_code, answer.json()["code"]) == (400, "ews_url_missing")
        assert not Device.objects.exists()
