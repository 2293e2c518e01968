"""How much may be said to whom, and when it is quiet."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from apps.announce.payload import Content
from apps.announce.policy import (
    ContentPolicy,
    Quiet,
    VipHmac,
    Wishes,
    is_quiet,
    narrowed,
    rules,
    vip_hmac,
)
from apps.tenants.groups import create_group
from apps.tenants.inherited import SettingRefused, override, settings_for
from apps.tenants.models import OgSetting

ALL = Content("Ben", "Lunch", "Hi Anna")
NIGHT = Quiet((1, 2, 3, 4, 5), 22 * 60, 6 * 60)  # Monday to Friday, from 22:00 to 06:00
NOON = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", None),
        ("generic", None),
        ("sender", Content("Ben")),
        ("sender_subject", Content("Ben", "Lunch")),
        ("preview", ALL),
    ],
)
def test_a_level_narrows_the_content(level: str, expected: Content | None) -> None:
    assert narrowed(ALL, level) == expected


@pytest.mark.parametrize(
    ("allowed", "wished", "level"),
    [
        ("sender_subject", "", "sender_subject"),
        ("sender_subject", "preview", "sender_subject"),
        ("preview", "sender", "sender"),
        ("none", "preview", "none"),
    ],
)
def test_a_device_narrows_and_never_widens(allowed: str, wished: str, level: str) -> None:
    held = rules(ContentPolicy(level=allowed), wished, Wishes(), "", NOON)
    assert held.level == level


@pytest.mark.parametrize(
    ("moment", "quiet"),
    [
        ("2026-11-16T21:59", False),  # Monday
        ("2026-11-16T22:00", True),
        ("2026-11-17T05:59", True),
        ("2026-11-17T06:00", False),
        ("2026-11-21T05:59", True),  # Saturday, the end of Friday's night
        ("2026-11-21T22:30", False),
        ("2026-11-16T01:00", False),  # Monday: Sunday's night is none
    ],
)
def test_quiet_hours_over_midnight_belong_to_the_day_they_begin(moment: str, quiet: bool) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert is_quiet([NIGHT], "UTC", now) is quiet


def test_quiet_hours_go_by_the_clocks_where_the_phone_is() -> None:
    evening_in_tokyo = datetime(2026, 11, 18, 13, 30, tzinfo=UTC)  # 22:30 there
    assert is_quiet([NIGHT], "Asia/Tokyo", evening_in_tokyo)
    assert not is_quiet([NIGHT], "Europe/Berlin", evening_in_tokyo)
    # An hour that summer time leaves out, or has twice, is told by the clock on the wall.
    winter = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # the second 02:30 in Berlin
    assert is_quiet([Quiet((7,), 150, 180)], "Europe/Berlin", winter)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "", "\0"])
def test_a_zone_nobody_knows_is_utc(zone: str) -> None:
    assert is_quiet([Quiet((3,), 12 * 60, 13 * 60)], zone, NOON)


def test_in_the_organizations_quiet_hours_only_the_badge_changes() -> None:
    policy = ContentPolicy(quiet_from="20:00", quiet_to="06:00", time_zone="Asia/Tokyo")
    assert rules(policy, "", Wishes(), "", NOON).level == "none"  # 21:00 in Tokyo
    assert rules(policy, "", Wishes(), "Europe/Berlin", NOON).level == "sender_subject"


@pytest.mark.parametrize(
    ("organizations", "wished", "sound"),
    [
        ("default", None, "default"),
        ("bell.caf", None, "bell.caf"),
        ("bell.caf", "ding.caf", "ding.caf"),
        ("none", None, ""),
        ("default", "none", ""),
        ("not a file", None, ""),
    ],
)
def test_sounds(organizations: str, wished: str | None, sound: str) -> None:
    held = rules(ContentPolicy(sound=organizations), "", Wishes(sound=wished), "", NOON)
    assert held.sound == sound


@pytest.mark.django_db
def test_vips_of_the_group_and_of_the_device_count_together() -> None:
    boss, friend = vip_hmac("Boss@Example.com "), vip_hmac("friend@example.com")
    assert boss == vip_hmac("boss@example.com") != friend
    wishes = Wishes(vips=frozenset({friend}))
    assert rules(ContentPolicy(), "", Wishes(), "", NOON).vips is None
    assert rules(ContentPolicy(vips=(VipHmac(boss),)), "", wishes, "", NOON).vips == {boss, friend}
    held = rules(ContentPolicy(vips_only=True, vips=(VipHmac(boss),)), "", Wishes(), "", NOON)
    assert held.vips == {boss}


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(),
        Wishes(frozenset(), (NIGHT, Quiet((7,), 0, 0)), "none", False),
        Wishes(frozenset({"ab", "cd"}), (), None, True),
    ],
)
def test_wishes_are_stored_as_they_are(wishes: Wishes) -> None:
    assert Wishes.from_json(wishes.to_json()) == wishes
    assert Wishes.from_json({}) == Wishes()


@pytest.mark.django_db
def test_a_group_below_may_only_narrow() -> None:
    company = create_group("Company")
    team = create_group("Team", company)
    override(company, ContentPolicy, level="sender", require_encryption=True, vips=("ab" * 16,))
    for wider in (
        {"level": "preview"},
        {"require_encryption": False},
        {"vips": ("boss@example.com",)},
    ):
        with pytest.raises(SettingRefused):
            override(team, ContentPolicy, **wider)
    override(
        team, ContentPolicy, level="generic", vips_only=True, quiet_from="00:00", quiet_to="01:00"
    )
    found = settings_for(team, ContentPolicy)
    assert (found.level, found.require_encryption, found.vips) == ("generic", True, ("ab" * 16,))
    assert (found.vips_only, found.quiet_from, found.quiet_to) == (True, "00:00", "01:00")


@pytest.mark.django_db
def test_the_vips_of_a_group_are_set_by_command_and_stored_as_hmacs() -> None:
    group = create_group("Company")
    call_command("ens_vips", "add", "Boss@Example.com", "cfo@example.com", og="Company")
    call_command("ens_vips", "remove", "cfo@example.com", og="Company")
    found = settings_for(group, ContentPolicy).vips
    assert found == (vip_hmac("boss@example.com"),)
    assert "example" not in str(list(OgSetting.objects.values_list("value", flat=True)))
    with pytest.raises(CommandError):
        call_command("ens_vips", "add", "not an address", og="Company")
