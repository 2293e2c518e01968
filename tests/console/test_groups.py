"""Organization groups: the tree, new groups, other names, deletion; hostile names are harmless."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.tenants.groups import create_group
from apps.tenants.models import OrganizationGroup
from apps.tenants.tokens import issue_token
from tests.console.people import BASE, World, person, signed_in

pytestmark = pytest.mark.django_db
GROUPS = f"{BASE}tenants/organizationgroup/"


@pytest.fixture
def admin(world: World) -> Client:
    return signed_in(world.people[Role.OG_ADMINISTRATOR])


def test_the_first_group_of_an_empty_installation(db: None) -> None:
    client = signed_in(person("chief", Role.SYSTEM_ADMINISTRATOR))
    before = client.get(BASE).content.decode()
    assert "Until the first phone rings" in before and "Contoso" not in before
    assert client.post(f"{GROUPS}add/", {"name": "Contoso", "parent": ""}).status_code == 302
    page = client.get(BASE).content.decode()
    assert "Contoso" in page and page.count("Done: ") == before.count("Done: ") + 1


def test_a_child_is_made_renamed_and_deleted(world: World, admin: Client) -> None:
    admin.post(f"{GROUPS}add/", {"name": "Sales", "parent": world.below.pk})
    made = OrganizationGroup.objects.get(name="Sales")
    assert made.path.startswith(world.below.path)
    admin.post(f"{GROUPS}{made.pk}/change/", {"name": "Field sales"})
    made.refresh_from_db()
    assert made.name == "Field sales"
    admin.post(f"{GROUPS}{made.pk}/delete/", {"post": "yes"})
    assert not OrganizationGroup.objects.filter(pk=made.pk).exists()
    world.below.refresh_from_db()
    assert world.below.numchild == 0
    actions = AuditEntry.objects.filter(action__startswith="group.").order_by("id")
    assert [a.action for a in actions] == ["group.create", "group.change", "group.delete"]
    assert actions[1].before == {"name": "Sales"} and actions[1].after == {"name": "Field sales"}


def test_only_an_empty_group_is_deleted(world: World, admin: Client) -> None:
    issue_token(world.below, "phones")
    answer = admin.post(f"{GROUPS}{world.below.pk}/delete/", {"post": "yes"}, follow=True)
    assert b"1 api token" in answer.content
    answer = admin.post(f"{GROUPS}{world.mine.pk}/delete/", {"post": "yes"}, follow=True)
    assert b"1 group below it" in answer.content
    assert OrganizationGroup.objects.filter(pk__in=[world.mine.pk, world.below.pk]).count() == 2


def test_nobody_plants_a_tree_or_a_child_elsewhere(world: World, admin: Client) -> None:
    for parent in ("", world.foreign.pk):
        answer = admin.post(f"{GROUPS}add/", {"name": "Planted", "parent": parent})
        assert answer.status_code == 200
    assert not OrganizationGroup.objects.filter(name="Planted").exists()


@pytest.mark.parametrize("name", ["Below", " Below ", "", "a\nb", "\u202egnp", "x" * 201])
def test_names_that_are_refused(world: World, admin: Client, name: str) -> None:
    answer = admin.post(f"{GROUPS}add/", {"name": name, "parent": world.mine.pk})
    assert answer.status_code == 200
    assert OrganizationGroup.objects.count() == 3


def test_hostile_names_are_harmless(world: World, admin: Client) -> None:
    name = "<script>alert(1)</script>'\"{{7*7}}=cmd|' /C calc'!A0"
    hostile = create_group(name, world.mine)
    admin.post(f"{BASE}switch/", {"og": hostile.pk})
    for url in (BASE, GROUPS, f"{GROUPS}{hostile.pk}/change/", f"{BASE}settings/keypairs/"):
        page = admin.get(url).content.decode()
        assert "<script>alert" not in page, url
        assert "49=cmd" not in page, url
