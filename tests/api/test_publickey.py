"""publickey and alive."""

from __future__ import annotations

from datetime import datetime

from django.test import Client
from django.utils import timezone

from apps.keypairs.models import KeyPair
from apps.tenants.tokens import revoke_token
from ens_project import __version__
from tests.api.conftest import BASE, Api


def test_alive_is_open_and_needs_no_database(client: Client) -> None:
    answer = client.get(BASE + "alive")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__}


def test_a_public_key_is_what_the_page_shows(api: Api) -> None:
    answer = api.post("publickey", {})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"kid", "jwk", "expires_at"}
    assert set(body["jwk"]) == {"kty", "n", "e", "kid", "alg", "use"}
    assert body["jwk"]["kid"] == body["kid"]
    assert datetime.fromisoformat(body["expires_at"]) > timezone.now()


def test_a_wrong_revoked_or_missing_token_learns_nothing(api: Api, og: object) -> None:
    wrong = api.post("publickey", {}, bearer="ens_wrong")
    missing = api.post("publickey", {}, bearer="")
    revoke_token(og, "test")  # type: ignore[arg-type]
    revoked = api.post("publickey", {})
    for answer in (wrong, missing, revoked):
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorized"
    assert wrong.content == missing.content == revoked.content


def test_no_one_waits_for_a_key_to_be_made(api: Api) -> None:
    KeyPair.objects.all().delete()
    answer = api.post("publickey", {})
    assert answer.status_code == 503
    assert answer.json()["code"] == "no_key_ready"
    assert int(answer["Retry-After"]) > 0
    assert not KeyPair.objects.exists()


def test_members_nobody_defined_are_refused(api: Api) -> None:
    answer = api.post("publickey", {"kdi": 1})
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "urn:ens:problem:malformed",
        "title": "The request is not what the API describes.",
        "status": 400,
        "code": "malformed",
        "detail": "kdi: unknown",
    }
