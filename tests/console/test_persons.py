"""A person's data: as a file, or gone; in one's own groups, and without the address anywhere."""

from __future__ import annotations

import json
import time

import pytest
from django.test import Client

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.devices.models import Device, Mailbox
from tests.console.fleet import make_device
from tests.console.people import BASE, World, signed_in

pytestmark = pytest.mark.django_db
PAGE = f"{BASE}persons/"
ADDRESS = "Zoe.Canary@example.com"


@pytest.fixture
def admin(world: World) -> Client:
    return signed_in(world.people[Role.OG_ADMINISTRATOR])


def test_the_file_holds_what_is_known_in_ones_own_groups(admin: Client, world: World) -> None:
    mine, foreign = make_device(world.below, ADDRESS), make_device(world.foreign, ADDRESS)
    answer = admin.post(PAGE, {"what": "export", "address": ADDRESS.upper()})
    assert answer["Content-Disposition"] == 'attachment; filename="person.json"'
    found = json.loads(answer.content)
    assert [d["id"] for box in found["mailboxes"] for d in box["devices"]] == [str(mine.pk)]
    assert str(foreign.pk) not in answer.content.decode()
    assert "canary" not in repr(list(AuditEntry.objects.values())).lower()
    assert AuditEntry.objects.filter(action="person.export").exists()
    for role in (Role.HELP_DESK, Role.AUDITOR):
        assert signed_in(world.people[role]).get(PAGE).status_code == 403


def test_forgetting_wants_to_be_sure_and_a_step_up(admin: Client, world: World) -> None:
    make_device(world.below, ADDRESS)
    foreign = make_device(world.foreign, ADDRESS)
    sent = {"what": "forget", "address": ADDRESS}
    admin.post(PAGE, sent)
    assert Device.objects.count() == 2
    session = admin.session
    for entry in session["account_authentication_methods"]:
        entry["at"] = time.time() - 301
    session.save()
    assert "again" in admin.post(PAGE, sent | {"sure": "on"})["Location"]
    assert Device.objects.count() == 2
    again = signed_in(world.people[Role.OG_ADMINISTRATOR])
    page = again.post(PAGE, sent | {"sure": "on"}, follow=True).content.decode()
    assert "devices: 1" in page and "canary" not in page.lower()
    assert list(Device.objects.all()) == [foreign] and Mailbox.objects.count() == 1
