"""Sign-in with the directory's password, against a real server over real sockets."""

from __future__ import annotations

from typing import Any

import pytest
from axes.models import AccessAttempt
from django.test import Client

from apps.administrators.directory import people
from apps.administrators.models import Administrator, DirectoryIdentity, RoleAssignment
from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.tenants.groups import create_group
from ens_project.env import LdapGroup
from tests.administrators.directory import slapd
from tests.administrators.directory.conftest import PASSWORD, use
from tests.administrators.directory.slapd import Slapd
from tests.administrators.test_sign_in import code_of
from tests.console.people import BASE
from tests.console.people import PASSWORD as LOCAL_PASSWORD
from tests.console.people import person as local_person

pytestmark = pytest.mark.django_db
LOGIN = f"{BASE}account/login/"


def come(name: str = "grace", password: str = PASSWORD, client: Client | None = None) -> Any:
    return (client or Client()).post(LOGIN, {"login": name, "password": password})


def is_in(answer: Any) -> bool:
    return answer.status_code == 302 and answer["Location"] == BASE


def test_the_first_sign_in_makes_an_account_without_a_password(directory: Slapd) -> None:
    client = Client()
    assert is_in(come(client=client))
    assert client.get(BASE).status_code == 200
    grace = Administrator.objects.get()
    assert (grace.username, grace.source, grace.display_name) == ("grace", "ldap", "Grace")
    assert grace.password.startswith("!") and not grace.check_password(PASSWORD)
    assert [(one.role, one.og) for one in grace.assignments.all()] == [
        (Role.SYSTEM_ADMINISTRATOR, None)
    ]
    assert is_in(come("GRACE"))
    assert Administrator.objects.count() == DirectoryIdentity.objects.count() == 1
    made = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"administrator.directory.join", "administrator.directory.roles"} <= made


def test_starttls_will_do(directory: Slapd, settings: Any) -> None:
    use(settings, ldap_urls=[directory.starttls], ldap_ca_file=directory.ca_file)
    assert is_in(come())


def test_wrong_passwords_lock_the_name(directory: Slapd) -> None:
    for _ in range(5):
        answer = come(password="wrong")
        assert not is_in(answer)
    assert answer.status_code == 429
    assert come().status_code == 429  # the right one, too
    assert not Administrator.objects.exists()


@pytest.mark.parametrize("password", ["", "\0", f"\0{PASSWORD}"])
def test_an_empty_password_is_no_password(directory: Slapd, password: str) -> None:
    assert not is_in(come(password=password))
    assert not Administrator.objects.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("*", "gr*", "*)(uid=*", "grace)(objectClass=*", "grace)(|(uid=*", "nobody", "grace\0"),
        *("\\67race", f"uid=grace,{slapd.PEOPLE}", "grace\\", "gráce", "g race"),
    ],
)
def test_a_name_is_a_name_and_no_filter(directory: Slapd, name: str) -> None:
    assert not is_in(come(name))
    assert not Administrator.objects.exists()


def test_who_is_in_no_group_stays_out_and_is_counted(directory: Slapd) -> None:
    directory.leave(slapd.CHIEFS, "grace")
    assert not is_in(come())
    assert not Administrator.objects.exists()
    assert AccessAttempt.objects.exists()


def test_groups_give_roles_where_they_say_at_every_sign_in(directory: Slapd, settings: Any) -> None:
    mine = create_group("Mine")
    groups = [
        LdapGroup(role="help_desk", og=mine.guid, dn=slapd.HELPERS),
        LdapGroup(role="auditor", dn=slapd.READERS),
        LdapGroup(
            role="og_administrator", og="6f9619ff-8b86-d011-b42d-00c04fc964ff", dn=slapd.CHIEFS
        ),  # type: ignore[arg-type]
    ]
    use(settings, ldap_groups=groups, ldap_urls=[directory.ldaps], ldap_ca_file=directory.ca_file)
    assert not is_in(come())  # of a group of ours that is not there
    directory.join(slapd.HELPERS, "grace")
    directory.join(slapd.READERS, "grace")
    assert is_in(come())
    held = set(RoleAssignment.objects.values_list("role", "og"))
    assert held == {("help_desk", mine.pk), ("auditor", None)}
    directory.leave(slapd.READERS, "grace")
    assert is_in(come())
    assert set(RoleAssignment.objects.values_list("role", "og")) == {("help_desk", mine.pk)}


def test_who_has_lost_all_groups_loses_everything(directory: Slapd) -> None:
    client = Client()
    come(client=client)
    assert client.get(BASE).status_code == 200
    directory.leave(slapd.CHIEFS, "grace")
    assert not is_in(come())
    assert not RoleAssignment.objects.exists()
    assert client.get(BASE).status_code == 302  # the open session has ended
    directory.join(slapd.CHIEFS, "grace")
    assert is_in(come())


def test_between_sign_ins_roles_are_looked_up_again(directory: Slapd) -> None:
    client = Client()
    come(client=client)
    people.refresh()
    assert client.get(BASE).status_code == 200
    directory.leave(slapd.CHIEFS, "grace")
    people.refresh()
    assert client.get(BASE).status_code == 302
    assert not RoleAssignment.objects.exists()


def test_who_is_gone_from_the_directory_loses_everything(directory: Slapd) -> None:
    come()
    directory.delete(f"uid=grace,{slapd.PEOPLE}")
    people.refresh()
    assert not RoleAssignment.objects.exists()
    directory.add(slapd.person("grace", PASSWORD))


def test_nobody_loses_anything_while_the_directory_is_away(directory: Slapd) -> None:
    come()
    directory.stop()
    people.refresh()
    assert RoleAssignment.objects.exists()


def test_without_a_service_account_roles_end_with_the_session(
    directory: Slapd, settings: Any
) -> None:
    come()
    use(settings, ldap_bind_name="", ldap_urls=[directory.ldaps])
    people.refresh()
    assert RoleAssignment.objects.exists()
    DirectoryIdentity.objects.update(confirmed_at="2020-01-01T00:00Z")
    people.refresh()
    assert not RoleAssignment.objects.exists()


def test_a_local_account_is_not_opened_by_somebody_of_its_name(directory: Slapd) -> None:
    local = local_person("grace", Role.AUDITOR)
    assert not is_in(come())
    assert is_in(come(password=LOCAL_PASSWORD))
    local.refresh_from_db()
    assert local.source == "local" and not DirectoryIdentity.objects.exists()
    directory.stop()  # and what is typed there never gets to the directory
    assert b"directory does not answer" not in come(password="mistyped").content


def test_an_account_is_not_opened_by_the_next_who_is_called_so(directory: Slapd) -> None:
    come()
    dn = f"uid=grace,{slapd.PEOPLE}"
    directory.delete(dn)
    directory.add(slapd.person("grace", PASSWORD))  # with an entryUUID of her own
    assert not is_in(come())
    Administrator.objects.update(username="grace.old")
    assert is_in(come())
    assert Administrator.objects.count() == 2


def test_a_new_name_is_followed(directory: Slapd) -> None:
    come()
    directory.change(f"uid=grace,{slapd.PEOPLE}", "replace: displayName\ndisplayName: Grace H.")
    come()
    assert Administrator.objects.get().display_name == "Grace H."


def test_who_was_switched_off_here_stays_out(directory: Slapd) -> None:
    come()
    Administrator.objects.update(is_active=False)
    assert not is_in(come())


def test_while_the_directory_is_away_local_administrators_sign_in(directory: Slapd) -> None:
    local_person("ada", Role.SYSTEM_ADMINISTRATOR)
    directory.stop()
    assert is_in(come("ada", LOCAL_PASSWORD))
    for _ in range(6):
        answer = come()
    assert answer.status_code == 200 and b"directory does not answer" in answer.content
    assert not AccessAttempt.objects.exists()  # nobody has shown that the password is wrong


def test_the_password_is_asked_for_again_where_it_is_dangerous(directory: Slapd) -> None:
    client = Client()
    come(client=client)
    again = f"{BASE}account/again/"
    assert client.post(again, {"password": "wrong"}).status_code == 200
    assert client.post(again, {"password": PASSWORD}).status_code == 302
    assert client.get(f"{BASE}account/password/")["Location"] == BASE  # not kept here


def test_an_authenticator_app_works_on_top(directory: Slapd, settings: Any) -> None:
    settings.ENS = settings.ENS.model_copy(update={"require_second_factor": ["all"]})
    client = Client()
    come(client=client)
    activate = f"{BASE}account/two-step/totp/activate/"
    assert client.get(BASE)["Location"] == activate
    again = client.get(activate)["Location"]  # the directory's password once more
    page = client.get(client.post(again, {"password": PASSWORD})["Location"])
    secret = page.context["form"].secret
    assert client.post(activate, {"code": code_of(secret)}).status_code == 302
    assert client.get(BASE).status_code == 200
    visitor = Client()
    door = come(client=visitor)["Location"]
    assert door.endswith("/account/two-step/authenticate/")
    assert visitor.get(BASE).status_code == 302
    assert visitor.post(door, {"code": code_of(secret)})["Location"] == BASE
    assert visitor.get(BASE).status_code == 200


def test_passwords_are_nowhere(
    directory: Slapd, settings: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level("DEBUG")
    come()
    come(password=f"{PASSWORD}-wrong")
    use(settings, ldap_urls=[directory.ldaps], ldap_bind_name=f"cn=x,{slapd.SUFFIX}")
    come()
    directory.stop()
    come()
    from django.apps import apps

    kept = repr(
        [list(m._base_manager.values()) for m in apps.get_models(include_auto_created=True)]
    )
    out = capfd.readouterr()
    for place in (kept, caplog.text, out.out, out.err):
        assert PASSWORD not in place and slapd.SERVICE_PASSWORD not in place
