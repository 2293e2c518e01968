"""Sign-in: lockout, second factor, session times, step-up; over Django's test client."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from apps.administrators import accounts, lockout
from apps.administrators.models import Administrator, UsedCode
from apps.administrators.roles import Role
from apps.administrators.tasks import housekeeping
from apps.audit.models import AuditEntry
from tests.console.people import BASE, PASSWORD, person, signed_in

pytestmark = pytest.mark.django_db
LOGIN = f"{BASE}account/login/"


@pytest.fixture
def ada() -> Administrator:
    return person("ada", Role.SYSTEM_ADMINISTRATOR)


def try_in(client: Client, name: str, password: str, **headers: str) -> Any:
    return client.post(LOGIN, {"login": name, "password": password}, headers=headers)


def test_a_name_is_locked_after_five_failures_even_for_the_right_password(
    ada: Administrator,
) -> None:
    client = Client()
    for _ in range(5):
        answer = try_in(client, "ada", "wrong")
    assert answer.status_code == 429
    assert try_in(Client(), "ADA ", PASSWORD).status_code == 429  # however it is written
    assert client.get(BASE).status_code == 302
    lockout.unlock("Ada")
    assert try_in(Client(), "ada", PASSWORD)["Location"] == BASE


def test_a_name_that_nobody_has_looks_the_same(ada: Administrator) -> None:
    known = [try_in(Client(), "ada", "wrong") for _ in range(6)]
    unknown = [try_in(Client(), "nobody", "wrong") for _ in range(6)]
    assert [a.status_code for a in known] == [a.status_code for a in unknown]
    assert known[-1].content == unknown[-1].content


def test_a_lock_ends_after_its_time(ada: Administrator) -> None:
    for _ in range(5):
        try_in(Client(), "ada", "wrong")
    over = lockout.timezone.now() - 2 * lockout.cool_off()
    AccessAttempt.objects.update(attempt_time=over)
    assert try_in(Client(), "ada", PASSWORD).status_code == 302


def test_what_was_typed_is_nowhere_in_the_database(ada: Administrator) -> None:
    try_in(Client(), "Sommer!pass", "Winter!pass")
    (attempt,) = AccessAttempt.objects.values()
    assert "Sommer" not in repr(attempt) and "sommer" not in repr(attempt)
    assert "Winter" not in repr(attempt)


def test_only_listed_proxies_say_where_somebody_comes_from(
    ada: Administrator, settings: Any
) -> None:
    try_in(Client(), "ada", "wrong", x_forwarded_for="203.0.113.7")
    assert AccessAttempt.objects.get().ip_address == "127.0.0.1"


def test_signing_in_is_audited_and_the_session_is_sealed(ada: Administrator) -> None:
    client = signed_in(ada)
    assert AuditEntry.objects.filter(actor="ada", action="session.sign_in").exists()
    (row,) = Session.objects.all()
    key = client.cookies["ens_console"].value
    assert row.session_key != key  # who reads the database can't take over the session
    assert Session.objects.model(session_data=row.session_data).get_decoded() == {}
    assert client.get(BASE).status_code == 200
    client.cookies["ens_console"] = row.session_key
    assert client.get(BASE).status_code == 302


def test_a_session_ends_when_idle_and_at_the_latest_after_hours(
    ada: Administrator, settings: Any
) -> None:
    for name, age in (("seen_at", 32 * 60), ("signed_in_at", 13 * 3600)):
        client = signed_in(ada)
        assert client.get(BASE).status_code == 200
        session = client.session
        session[name] = int(time.time()) - age
        session.save()
        assert client.get(BASE).status_code == 302, name


def test_a_page_that_asks_by_itself_keeps_no_session_alive(ada: Administrator) -> None:
    client = signed_in(ada)
    session = client.session
    session["seen_at"] = before = int(time.time()) - 600
    session.save()
    client.get(BASE, headers={"X-ENS-Poll": "1"})
    assert client.session["seen_at"] == before
    client.get(BASE)
    assert client.session["seen_at"] > before


def test_an_administrator_who_may_no_longer_sign_in_is_out_at_once(ada: Administrator) -> None:
    client = signed_in(ada)
    Administrator.objects.update(is_active=False)
    assert client.get(BASE).status_code == 302
    assert try_in(Client(), "ada", PASSWORD)["Location"].endswith("/account/inactive/")


def test_a_new_password_ends_the_sessions(ada: Administrator) -> None:
    client = signed_in(ada)
    accounts.reset(ada, "another horse 17 battery")
    assert client.get(BASE).status_code == 302


def code_of(secret: str) -> str:
    cache.clear()  # a code counts once; tests are quicker than the next one
    UsedCode.objects.all().delete()
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def with_second_factor(ada: Administrator) -> tuple[Client, str]:
    """Set up an authenticator app as a person does; its secret."""
    client = signed_in(ada)
    answer = client.get(f"{BASE}account/two-step/totp/activate/")
    assert answer.status_code == 302  # to show the password again
    again = client.post(answer["Location"], {"password": PASSWORD})
    page = client.get(again["Location"])
    secret = page.context["form"].secret
    done = client.post(f"{BASE}account/two-step/totp/activate/", {"code": code_of(secret)})
    assert done.status_code == 302, done.content
    return client, secret


def test_a_second_factor_is_asked_for_and_kept_sealed(ada: Administrator) -> None:
    _, secret = with_second_factor(ada)
    assert secret not in repr(list(Authenticator.objects.values("data")))
    client = Client()
    answer = try_in(client, "ada", PASSWORD)
    assert answer["Location"].endswith("/account/two-step/authenticate/")
    assert client.get(BASE).status_code == 302  # not in yet
    wrong = client.post(answer["Location"], {"code": "000000"})
    assert b"Incorrect code" in wrong.content
    right = client.post(answer["Location"], {"code": code_of(secret)})
    assert right["Location"] == BASE
    assert client.get(BASE).status_code == 200


def test_a_recovery_code_opens_once(ada: Administrator) -> None:
    client, _ = with_second_factor(ada)
    page = client.get(f"{BASE}account/two-step/recovery-codes/")
    code = page.context["unused_codes"][0]
    for expected in (302, 200):
        visitor = Client()
        door = try_in(visitor, "ada", PASSWORD)["Location"]
        assert visitor.post(door, {"code": code}).status_code == expected


def test_wrong_codes_lock_the_name_on_every_server(ada: Administrator) -> None:
    _, secret = with_second_factor(ada)
    client = Client()
    door = try_in(client, "ada", PASSWORD)["Location"]
    for _ in range(5):
        client.post(door, {"code": "000000"})
    cache.clear()  # another server: it shares nothing but the database
    answer = client.post(door, {"code": code_of(secret)})
    assert answer.status_code in (200, 429)
    assert client.get(BASE).status_code == 302
    assert try_in(Client(), "ada", PASSWORD).status_code == 429


def test_a_code_counts_once_on_all_servers(ada: Administrator) -> None:
    _, secret = with_second_factor(ada)
    code = code_of(secret)
    first, second, third = (Client() for _ in range(3))
    for client, expected in ((first, 302), (second, 200)):
        door = try_in(client, "ada", PASSWORD)["Location"]
        cache.clear()  # another server: it shares nothing but the database
        spaced = code if client is first else f" {code[:3]} {code[3:]} "
        assert client.post(door, {"code": spaced}).status_code == expected
        # Nor does it count for a step-up, whoever has seen it.
    cache.clear()
    again = first.post(f"{BASE}account/two-step/reauthenticate/", {"code": code})
    assert b"Incorrect code" in again.content
    assert code not in repr(list(UsedCode.objects.values()))
    over = lockout.timezone.now() - timedelta(seconds=121)
    UsedCode.objects.update(used_at=over)
    housekeeping()
    assert not UsedCode.objects.exists()
    door = try_in(third, "ada", PASSWORD)["Location"]
    cache.clear()
    assert third.post(door, {"code": code_of(secret)}).status_code == 302


def test_the_code_that_set_the_app_up_opens_nothing_more(ada: Administrator) -> None:
    _, secret = with_second_factor(ada)
    cache.clear()
    client = Client()
    door = try_in(client, "ada", PASSWORD)["Location"]
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    before = UsedCode.objects.get().code_hmac
    assert client.post(door, {"code": code}).status_code == 200 or (
        before != UsedCode.objects.last().code_hmac  # the half minute was over just now
    )


def test_a_second_factor_may_be_required(ada: Administrator, settings: Any) -> None:
    person("aud", Role.AUDITOR)
    settings.ENS = settings.ENS.model_copy(
        update={"require_second_factor": ["system_administrator"]}
    )
    activate = f"{BASE}account/two-step/totp/activate/"
    assert signed_in(Administrator.objects.get(username="aud")).get(BASE).status_code == 200
    client = signed_in(ada)
    for path in ("", "devices/device/", "diagnostics/", "administrators/administrator/add/"):
        assert client.get(f"{BASE}{path}")["Location"] == activate, path
        assert client.post(f"{BASE}{path}")["Location"] == activate, path
    assert client.post(f"{BASE}switch/", {"og": "1"})["Location"] == activate
    assert client.post(f"{BASE}account/logout/").status_code == 302
    client, _ = with_second_factor(ada)
    assert client.get(BASE).status_code == 200
    # And it can't be turned off again.
    client.post(f"{BASE}account/two-step/totp/deactivate/")
    assert Authenticator.objects.filter(type="totp").exists()
    settings.ENS = settings.ENS.model_copy(update={"require_second_factor": ["all"]})
    aud = signed_in(Administrator.objects.get(username="aud"))
    assert aud.get(BASE)["Location"] == activate


def test_reset_lets_in_who_lost_the_phone(ada: Administrator) -> None:
    with_second_factor(ada)
    accounts.reset(ada, PASSWORD)
    assert try_in(Client(), "ada", PASSWORD)["Location"] == BASE


@pytest.mark.parametrize("after", ["https://evil.example/", "//evil.example", "javascript:x"])
def test_sign_in_leads_nowhere_else(ada: Administrator, after: str) -> None:
    answer = Client().post(LOGIN, {"login": "ada", "password": PASSWORD, "next": after})
    assert answer["Location"] == BASE


def test_forms_need_their_token(ada: Administrator) -> None:
    client = Client(enforce_csrf_checks=True)
    assert try_in(client, "ada", PASSWORD).status_code == 403


def test_housekeeping_forgets_what_is_over(ada: Administrator) -> None:
    signed_in(ada)
    try_in(Client(), "ada", "wrong")
    over = lockout.timezone.now() - 3 * lockout.cool_off()
    Session.objects.update(expire_date=over)
    AccessAttempt.objects.update(attempt_time=over)
    housekeeping()
    assert not Session.objects.exists() and not AccessAttempt.objects.exists()
