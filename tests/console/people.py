"""Administrators of every role, in a tree of two companies that must not know of each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.test import Client

from apps.administrators.models import Administrator, RoleAssignment
from apps.administrators.roles import Role
from apps.tenants.groups import create_group
from apps.tenants.models import OrganizationGroup

BASE = "/MailNotificationService/console/"
PASSWORD = "correct horse battery 9"
# What must be found on nobody's page but their own.
FOREIGN = "Zzforeign"


@dataclass
class World:
    """`mine` and `below` are a company and its branch; `foreign` is another company."""

    mine: OrganizationGroup
    below: OrganizationGroup
    foreign: OrganizationGroup
    people: dict[str, Administrator] = field(default_factory=dict)


def make_world() -> World:
    """Two companies, and a person of each role: the system administrator everywhere."""
    mine = create_group("Mine")
    world = World(mine, create_group("Below", mine), create_group(f"{FOREIGN} Ltd"))
    for role in Role.values:
        og = None if role == Role.SYSTEM_ADMINISTRATOR else mine
        world.people[role] = person(role, role, og)
    return world


def person(name: str, role: str | None, og: OrganizationGroup | None = None) -> Administrator:
    """An administrator with the common password."""
    made = Administrator(username=name)
    made.set_password(PASSWORD)
    made.save()
    if role is not None:
        RoleAssignment.objects.create(administrator=made, role=role, og=og)
    return made


def signed_in(who: Administrator) -> Client:
    """A browser in which somebody has just signed in with their password."""
    client = Client()
    answer = client.post(f"{BASE}account/login/", {"login": who.username, "password": PASSWORD})
    assert answer.status_code == 302, answer.content
    return client
