"""A phone's name on the pages about it, whatever its user has called it."""

from __future__ import annotations

from apps.administrators.roles import Role
from apps.devices import registry
from apps.devices.labels import PeopleSettings
from apps.tenants.inherited import override
from apps.tenants.mail_systems import add_mail_system
from tests.console.people import BASE, World, signed_in

NAME = "<b>Anna</b>\u202e's phone"


def test_the_name_is_shown_as_text(world: World) -> None:
    override(world.mine, PeopleSettings, display_label="device_name")
    system = add_mail_system(world.mine, "Exchange", ["mail.example.com"])
    mailbox = registry.mailbox_for(system, "anna@example.com")
    said = registry.Description(
        platform="ios",
        app_id="com.example.mail",
        push_token="ab" * 32,
        ews_url="",
        device_name=NAME,
    )
    enrolled = registry.enrol(world.mine, mailbox, said)
    assert enrolled is not None
    client = signed_in(world.people[Role.HELP_DESK])
    for page in ("", f"{enrolled[0].id}/change/"):
        shown = client.get(f"{BASE}devices/device/{page}").content.decode()
        assert "Anna" in shown and "<b>Anna" not in shown and "\u202e" not in shown
