"""What browsers are told: content security, cookies, caches; and https behind a listed proxy."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from django.test import Client

from apps.administrators.roles import Role
from tests.console.people import BASE, PASSWORD, World, person, signed_in

pytestmark = pytest.mark.django_db


def test_no_inline_script_runs_and_nobody_frames_or_caches_us(world: World) -> None:
    answer = signed_in(world.people[Role.AUDITOR]).get(BASE)
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer["Content-Security-Policy"].split(";")
    )
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "http" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
    assert "no-store" in answer["Cache-Control"]
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_cookies_are_for_the_console_alone(world: World) -> None:
    client = signed_in(world.people[Role.AUDITOR])
    client.get(BASE)
    for name, same_site in (("ens_console", "Lax"), ("ens_csrf", "Strict")):
        cookie = client.cookies[name]
        assert cookie["secure"] and cookie["httponly"], name
        assert (cookie["path"], cookie["samesite"]) == (BASE, same_site)


def test_other_paths_get_no_session_and_no_policy(db: None) -> None:
    answer = Client().get("/MailNotificationService/api/ens/alive")
    assert not answer.cookies
    assert "Content-Security-Policy" not in answer.headers


@pytest.mark.parametrize(("proxy", "expected"), [("127.0.0.0/8", 302), ("10.0.0.0/8", 403)])
def test_https_is_believed_of_a_listed_proxy(
    db: None, settings: Any, proxy: str, expected: int
) -> None:
    person("ada", Role.AUDITOR)
    networks = [IPv4Network(proxy)]
    settings.ENS = settings.ENS.model_copy(update={"trusted_proxies": networks})
    given = {"X-Forwarded-Proto": "https", "Host": "testserver"}
    client = Client(enforce_csrf_checks=True, headers=given)
    door = f"{BASE}account/login/"
    client.get(door)
    sent = {"login": "ada", "password": PASSWORD}
    token = client.get(door).context["csrf_token"]
    answer = client.post(
        door, sent | {"csrfmiddlewaretoken": str(token)}, headers={"Origin": "https://testserver"}
    )
    assert answer.status_code == expected
