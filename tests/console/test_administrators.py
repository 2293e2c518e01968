"""The page of administrators: roles, step-up, and that somebody always remains."""

from __future__ import annotations

import time
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import Client

from apps.administrators.models import Administrator, RoleAssignment
from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from tests.console.people import BASE, PASSWORD, World, signed_in

pytestmark = pytest.mark.django_db
PEOPLE = f"{BASE}administrators/administrator/"


@pytest.fixture
def chief(world: World) -> Client:
    return signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])


def form(*roles: tuple[str, object], **values: str) -> dict[str, object]:
    sent: dict[str, object] = {
        "assignments-TOTAL_FORMS": len(roles),
        "assignments-INITIAL_FORMS": 0,
        "assignments-MIN_NUM_FORMS": 0,
        "assignments-MAX_NUM_FORMS": 1000,
        "is_active": "on",
        "source": "local",
    }
    for number, (role, og) in enumerate(roles):
        sent[f"assignments-{number}-role"] = role
        sent[f"assignments-{number}-og"] = og
    return sent | values


def made_long_ago(client: Client) -> None:
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] = time.time() - 301
    session.save()


def test_a_new_administrator_signs_in_and_sees_their_group_alone(
    world: World, chief: Client
) -> None:
    sent = form((Role.HELP_DESK, world.below.pk), username="Grace", password1=PASSWORD)
    answer = chief.post(f"{PEOPLE}add/", sent | {"password2": PASSWORD})
    assert answer.status_code == 302, answer.context["errors"]
    grace = Administrator.objects.get(username="grace")
    page = signed_in(grace).get(f"{BASE}tenants/organizationgroup/").content.decode()
    assert "Below" in page and "Mine" not in page
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"administrator.create", "administrator.roles"} <= actions
    assert PASSWORD not in repr(list(AuditEntry.objects.values()))


def test_it_asks_for_the_password_again_after_five_minutes(world: World, chief: Client) -> None:
    assert chief.get(f"{PEOPLE}add/").status_code == 200
    made_long_ago(chief)
    door = chief.get(f"{PEOPLE}add/")["Location"]
    assert door.startswith(f"{BASE}account/again/")
    late = chief.post(f"{PEOPLE}add/", form(username="eve", password1=PASSWORD))
    assert late.status_code == 302
    assert not Administrator.objects.filter(username="eve").exists()
    assert PASSWORD not in repr(dict(chief.session))
    assert chief.post(door, {"password": "wrong"}).status_code == 200
    assert chief.post(door, {"password": PASSWORD})["Location"] == f"{PEOPLE}add/"
    assert chief.get(f"{PEOPLE}add/").status_code == 200


def test_the_last_system_administrator_stays(world: World, chief: Client) -> None:
    me = world.people[Role.SYSTEM_ADMINISTRATOR]
    row = me.assignments.get()
    sent = form((Role.AUDITOR, ""), username=me.username) | {
        "assignments-INITIAL_FORMS": 1,
        "assignments-0-id": row.pk,
        "assignments-0-administrator": me.pk,
    }
    answer = chief.post(f"{PEOPLE}{me.pk}/change/", sent, follow=True)
    assert b"at least one system administrator" in answer.content
    assert RoleAssignment.objects.get(pk=row.pk).role == Role.SYSTEM_ADMINISTRATOR


def test_a_system_administrator_of_one_group_is_no_such_thing(world: World, chief: Client) -> None:
    sent = form((Role.SYSTEM_ADMINISTRATOR, world.mine.pk), username="eve", password1=PASSWORD)
    answer = chief.post(f"{PEOPLE}add/", sent | {"password2": PASSWORD})
    assert b"answers for the whole deployment" in answer.content


@pytest.mark.parametrize("password", ["short", "123456789012345", "administrator-eve", ""])
def test_weak_passwords_are_refused(world: World, chief: Client, password: str) -> None:
    sent = form(username="administrator-eve", password1=password, password2=password)
    chief.post(f"{PEOPLE}add/", sent)
    assert not Administrator.objects.filter(username="administrator-eve").exists()


def test_a_lock_is_lifted_by_post_alone(world: World, chief: Client) -> None:
    target = world.people[Role.AUDITOR]
    for _ in range(5):
        Client().post(f"{BASE}account/login/", {"login": target.username, "password": "no"})
    url = f"{PEOPLE}{target.pk}/lift-lock"
    paths = [url, f"{url}/"]
    page = next(answer for path in paths if (answer := chief.get(path)).status_code == 200)
    assert b"Are you sure" in page.content
    assert chief.post(page.request["PATH_INFO"]).status_code == 302
    signed_in(target)
    assert AuditEntry.objects.filter(action="administrator.unlock").exists()


def test_a_subject_of_the_openid_provider_is_tied_to_an_account(
    world: World, chief: Client, settings: Any
) -> None:
    settings.ENS = settings.ENS.model_copy(update={"oidc_issuer": "https://id.example"})
    sent = form((Role.AUDITOR, ""), username="grace", source="oidc", subject="s-1")
    assert chief.post(f"{PEOPLE}add/", sent).status_code == 302
    account = SocialAccount.objects.get()
    assert (account.uid, account.extra_data) == ("s-1", {"issuer": "https://id.example"})
    assert "s-1" in chief.get(f"{PEOPLE}{account.user_id}/change/").content.decode()
    sent = form((Role.AUDITOR, ""), username="other", source="oidc", subject="s-1")
    page = chief.post(f"{PEOPLE}add/", sent, follow=True).content.decode()
    assert "another administrator has this identifier" in page
    assert SocialAccount.objects.get().user.username == "grace"
    sent = form(username="grace", source="local", subject="s-1", password1=PASSWORD)
    chief.post(f"{PEOPLE}{account.user_id}/change/", sent | {"password2": PASSWORD})
    assert not SocialAccount.objects.exists()


def test_what_the_directory_gives_is_not_given_here(world: World, chief: Client) -> None:
    someone = Administrator.objects.create(username="grace", source="ldap")
    someone.set_unusable_password()
    someone.save()
    RoleAssignment.objects.create(administrator=someone, role=Role.SYSTEM_ADMINISTRATOR, og=None)
    page = chief.get(f"{PEOPLE}{someone.pk}/change/").content.decode()
    assert "given by the directory" in page and "assignments-0-role" not in page
    url = f"{PEOPLE}{someone.pk}/change/"
    sent = form((Role.AUDITOR, ""), username="grace", source="local", password1=PASSWORD)
    chief.post(url, sent | {"password2": PASSWORD})
    someone.refresh_from_db()
    assert someone.source == "ldap" and someone.password.startswith("!")
    assert [one.role for one in someone.assignments.all()] == [Role.SYSTEM_ADMINISTRATOR]
    sent = form((Role.AUDITOR, ""), username="eve", source="ldap")
    assert b"Select a valid choice" in chief.post(f"{PEOPLE}add/", sent).content


def test_somebody_remains_who_needs_no_directory(world: World, chief: Client) -> None:
    someone = Administrator.objects.create(username="grace", source="ldap", password="!x")
    RoleAssignment.objects.create(administrator=someone, role=Role.SYSTEM_ADMINISTRATOR, og=None)
    me = world.people[Role.SYSTEM_ADMINISTRATOR]
    sent = form(username=me.username) | {"is_active": ""}
    answer = chief.post(f"{PEOPLE}{me.pk}/change/", sent, follow=True)
    assert b"at least one system administrator" in answer.content


def test_a_new_rows_page_says_so_and_names_keep_their_capitals(world: World, chief: Client) -> None:
    page = chief.get(f"{PEOPLE}add/").content.decode()
    assert ">New<" in page and "addlink" not in page
    assert 'aria-label="Add administrator"' in chief.get(PEOPLE).content.decode()
    person = world.people[Role.AUDITOR]
    page = chief.get(f"{PEOPLE}{person.pk}/change/").content.decode()
    assert f">{person.username}</a>" in page and "Auditor</a>" not in page
