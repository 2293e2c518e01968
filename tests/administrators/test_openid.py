"""Sign-in at the company's OpenID provider, over real sockets with a pretend one."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from django.core.management import CommandError, call_command
from django.test import Client

from apps.administrators import accounts
from apps.administrators.accounts import AccountRefused
from apps.administrators.models import Administrator
from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from ens_project import console
from tests.administrators.provider import Provider
from tests.console.people import BASE, PASSWORD, person, signed_in

pytestmark = pytest.mark.django_db
DOOR = f"{BASE}account/oidc/company/login/"


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    made = Provider()
    values = {"oidc_issuer": made.issuer, "oidc_client_id": "ens", "oidc_name": "Contoso SSO"}
    settings.ENS = settings.ENS.model_copy(update=values)
    settings.SOCIALACCOUNT_PROVIDERS = console.openid_providers(settings.ENS)
    yield made
    made.close()


@pytest.fixture
def grace() -> Administrator:
    return accounts.create("grace@contoso.example", None, Role.SYSTEM_ADMINISTRATOR, None)


@pytest.fixture
def tied(provider: Provider, grace: Administrator) -> Administrator:
    accounts.link(grace, "s-1")
    return grace


def come_in(provider: Provider, client: Client | None = None, **claims: str) -> Any:
    """Press the button, agree at the provider, come back; the last answer."""
    client = client or Client()
    provider.claims = claims
    sent = client.post(DOOR)
    assert sent["Location"].startswith(f"{provider.issuer}/authorize"), sent.content
    query = parse_qs(urlsplit(sent["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    back = {"code": "opaque-code", "state": query["state"][0]}
    return client.get(f"{DOOR}callback/", back)


def test_who_is_meant_comes_in_and_nothing_personal_is_kept(
    provider: Provider, tied: Administrator
) -> None:
    client = Client()
    claims = {"preferred_username": "Grace@Contoso.example", "email": "grace@mail.example"}
    assert come_in(provider, client, sub="s-1", **claims)["Location"] == BASE
    assert client.get(BASE).status_code == 200
    assert "code_verifier" in provider.asked[0]
    # The name may change; the provider's own id counts.
    assert come_in(provider, sub="s-1", preferred_username="hopper")["Location"] == BASE
    assert "mail.example" not in repr(list(SocialAccount.objects.values()))


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "s-2", "preferred_username": "nobody"},
        {"sub": "s-2"},
        {"sub": "s-2", "preferred_username": "local"},
        {"sub": "s-2", "preferred_username": "grace@contoso.example"},
        {"sub": "s-2", "email": "grace@contoso.example", "issuer": "x"},
    ],
)
def test_nobody_else_comes_in(
    provider: Provider, grace: Administrator, claims: dict[str, str]
) -> None:
    person("local", Role.SYSTEM_ADMINISTRATOR)
    client = Client()
    answer = come_in(provider, client, **claims)
    assert answer.status_code == 403
    assert b"s-2" in answer.content  # to hand on to who may tie it to an account
    assert client.get(BASE).status_code == 302
    assert not SocialAccount.objects.exists()


def test_the_same_sub_of_another_issuer_is_somebody_else(
    provider: Provider, tied: Administrator, settings: Any
) -> None:
    assert come_in(provider, sub="s-1")["Location"] == BASE
    SocialAccount.objects.get()  # a sign-in leaves what is written there alone
    other = Provider()
    settings.ENS = settings.ENS.model_copy(update={"oidc_issuer": other.issuer})
    settings.SOCIALACCOUNT_PROVIDERS = console.openid_providers(settings.ENS)
    client = Client()
    assert come_in(other, client, sub="s-1", issuer=provider.issuer).status_code == 403
    assert client.get(BASE).status_code == 302
    accounts.link(tied, "s-1")  # an administrator says so
    assert come_in(other, sub="s-1")["Location"] == BASE
    other.close()


def test_who_signs_in_otherwise_is_not_opened_by_a_link(
    provider: Provider, tied: Administrator
) -> None:
    for source in (Administrator.Source.LOCAL, Administrator.Source.LDAP):
        Administrator.objects.update(source=source)
        assert come_in(provider, sub="s-1").status_code == 403
        with pytest.raises(AccountRefused):
            accounts.link(Administrator.objects.get(), "s-1")


def test_an_identifier_belongs_to_one(provider: Provider, tied: Administrator) -> None:
    other = accounts.create("other", None, Role.AUDITOR, None)
    for subject in ("s-1", "x" * 192, "a\nb"):
        with pytest.raises(AccountRefused):
            accounts.link(other, subject)
    accounts.link(tied, "")
    assert come_in(provider, sub="s-1").status_code == 403
    accounts.link(other, "s-1")
    assert come_in(provider, sub="s-1")["Location"] == BASE


def test_the_command_ties_and_unties(provider: Provider, grace: Administrator) -> None:
    call_command("ens_administrator", "link", grace.username, "s-7", stdout=StringIO())
    assert come_in(provider, sub="s-7")["Location"] == BASE
    call_command("ens_administrator", "link", grace.username, "", stdout=StringIO())
    assert come_in(provider, sub="s-7").status_code == 403
    person("local", Role.AUDITOR)
    with pytest.raises(CommandError, match="does not sign in at the OpenID provider"):
        call_command("ens_administrator", "link", "local", "s-7")
    assert AuditEntry.objects.filter(action="administrator.link").count() == 2
    # Whoever signs in elsewhere is given no password here, whatever is asked.
    call_command("ens_administrator", "reset", grace.username, stdout=StringIO())
    grace.refresh_from_db()
    assert grace.password.startswith("!")


def test_an_account_is_not_tied_to_whoever_is_signed_in(
    provider: Provider, grace: Administrator
) -> None:
    client = signed_in(person("local", Role.SYSTEM_ADMINISTRATOR))
    for _ in range(2):
        come_in(provider, client, sub="s-3", preferred_username="x")
        assert not SocialAccount.objects.exists()
    sent = client.post(DOOR, {"process": "connect"})
    query = parse_qs(urlsplit(sent["Location"]).query)
    client.get(f"{DOOR}callback/", {"code": "opaque-code", "state": query["state"][0]})
    assert not SocialAccount.objects.exists()


def test_who_may_no_longer_sign_in_stays_out(provider: Provider, tied: Administrator) -> None:
    come_in(provider, sub="s-1")
    Administrator.objects.update(is_active=False)
    client = Client()
    come_in(provider, client, sub="s-1")
    assert client.get(BASE).status_code == 302


def test_a_forged_way_back_opens_nothing(provider: Provider, grace: Administrator) -> None:
    client = Client()
    answer = client.get(f"{DOOR}callback/", {"code": "x", "state": "forged"})
    assert answer.status_code in (200, 302, 401, 403)
    assert client.get(BASE).status_code == 302


def test_they_have_no_password(provider: Provider, grace: Administrator) -> None:
    answer = Client().post(f"{BASE}account/login/", {"login": grace.username, "password": PASSWORD})
    assert answer.status_code == 200


def test_the_button_stands_on_the_page_only_where_there_is_a_provider(
    provider: Provider, settings: Any
) -> None:
    assert b"Contoso SSO" in Client().get(f"{BASE}account/login/").content
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": []}}
    assert b"Contoso SSO" not in Client().get(f"{BASE}account/login/").content
    assert Client().post(DOOR).status_code == 404
