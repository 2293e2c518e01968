"""The settings pages: in force, origin, override, reset; security settings only narrowed."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.console.pages.og_settings import SectionForm
from apps.keypairs.policy import KeyPairSettings
from apps.subscriptions.settings import SubscriptionSettings
from apps.tenants import inherited
from apps.tenants.inherited import override, settings_for
from tests.console.people import BASE, World, person, signed_in

pytestmark = pytest.mark.django_db
KEYS = f"{BASE}settings/keypairs/"
TIMES = f"{BASE}settings/subscriptions/"


@pytest.fixture
def chief(world: World) -> Client:
    return signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])


def look_at(client: Client, og: object) -> None:
    client.post(f"{BASE}switch/", {"og": getattr(og, "pk", og)})


def test_a_value_is_overridden_inherited_and_reset(world: World, chief: Client) -> None:
    look_at(chief, world.mine)
    sent = {"own_checkin_seconds": "on", "value_checkin_seconds": "600"}
    assert chief.post(TIMES, sent).status_code == 302
    assert settings_for(world.below, SubscriptionSettings).checkin_seconds == 600
    assert "Overridden here" in chief.get(TIMES).content.decode()
    look_at(chief, world.below)
    assert "Inherited from Mine" in chief.get(TIMES).content.decode()
    look_at(chief, world.mine)
    assert chief.post(TIMES, {"value_checkin_seconds": "600"}).status_code == 302
    assert settings_for(world.below, SubscriptionSettings).checkin_seconds == 3600
    entries = AuditEntry.objects.filter(action="settings.change", og_path=world.mine.path)
    assert [(e.before, e.after) for e in entries.order_by("id")] == [
        ({}, {"checkin_seconds": 600}),
        ({"checkin_seconds": 600}, {}),
    ]


def test_a_group_above_that_may_not_be_seen_stays_unnamed(world: World) -> None:
    override(world.mine, SubscriptionSettings, checkin_seconds=700)
    page = signed_in(person("low", Role.AUDITOR, world.below)).get(TIMES).content.decode()
    assert "Inherited from a group above" in page
    assert "Mine" not in page
    assert "Save" not in page


def test_a_security_setting_is_only_narrowed(world: World, chief: Client) -> None:
    override(world.mine, KeyPairSettings, bits=4096)
    look_at(chief, world.below)
    page = chief.post(KEYS, {"own_bits": "on", "value_bits": "2048"})
    assert b"may only be narrowed" in page.content
    assert settings_for(world.below, KeyPairSettings).bits == 4096


@pytest.mark.parametrize("value", ["0", "-1", "99999999", "", "x", "1e3", "６００", "<b>"])
def test_what_does_not_fit_is_refused_with_a_word(world: World, chief: Client, value: str) -> None:
    look_at(chief, world.mine)
    sent = {"own_status_frequency_minutes": "on", "value_status_frequency_minutes": value}
    answer = chief.post(TIMES, sent)
    if answer.status_code == 302:  # other digits are digits
        assert settings_for(world.mine, SubscriptionSettings).status_frequency_minutes == 600
    else:
        assert b"<b>" not in answer.content
        assert settings_for(world.mine, SubscriptionSettings) == SubscriptionSettings()


def test_all_or_none(world: World, chief: Client) -> None:
    look_at(chief, world.below)
    override(world.mine, KeyPairSettings, bits=4096)
    override(world.below, KeyPairSettings, hours_current=1)
    chief.post(KEYS, {"own_bits": "on", "value_bits": "2048"})
    assert inherited.own_names(world.below, KeyPairSettings) == {"hours_current"}


def test_every_setting_on_a_page_has_words(world: World) -> None:
    for section in inherited.sections().values():
        for item in SectionForm(section, world.mine).descriptions:
            assert item.label and item.help, f"{section.__name__}.{item.name}"
