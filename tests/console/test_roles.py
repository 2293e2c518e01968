"""Every address of the console as each role: none sees or changes another company's things."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.test import Client

from apps.administrators.roles import Role
from tests.console.people import BASE, FOREIGN, World, person, signed_in
from tests.console.walk import addresses

# What a visit may leave behind.
_TRACES = {"audit", "sessions", "axes", "mfa", "account", "contenttypes", "history", "alerts"}
_OPEN = {
    f"{BASE}account/{name}/" for name in ("login", "inactive", "oidc/failed", "oidc/cancelled")
}
_DOORS = (f"{BASE}account/login/", f"{BASE}login/")
_DATA = {"post": "yes", "name": "Zzhacked", "label": "Zzhacked", "action": "delete_selected"}


def _rows() -> dict[str, list[tuple[object, ...]]]:
    """The content of every table that a page could change, but for when somebody was here last."""
    return {
        model._meta.label: sorted(
            model._default_manager.values_list(
                *(f.name for f in model._meta.concrete_fields if f.name != "last_login")
            ),
            key=repr,
        )
        for model in apps.get_models()
        if model._meta.app_label not in _TRACES
    }


def _walk(
    client: Client, world: World, og_of_objects: str, adds: bool = True, acts: bool = True
) -> dict[str, tuple[int, int]]:
    """GET and POST every address; the answers' codes by address. No answer names the foreigner.

    What is added belongs to the visitor's chosen group, whatever the objects: `adds` off leaves
    those who may add something in their own group to do no more than look there; `acts` off, those
    who may do something with devices.
    """
    found = {}
    for url in dict.fromkeys(addresses(getattr(world, og_of_objects))):
        if url.endswith(("/logout/", "/switch/")):
            continue
        seen = client.get(url)
        harmless = (adds or not url.endswith("/add/")) and (acts or "/devices/device/" not in url)
        sent = client.post(url, _DATA) if harmless else seen
        for answer in (seen, sent):
            body = b"".join(answer) if answer.streaming else answer.content
            assert FOREIGN.lower().encode() not in body.lower(), url
        found[url] = (seen.status_code, sent.status_code)
    return found


def test_an_anonymous_visitor_gets_nothing_but_sign_in(world: World) -> None:
    for og in (world.mine, world.foreign):
        list(addresses(og))  # makes the objects
    before = _rows()
    client = Client()
    for url in addresses(world.mine):
        for answer in (client.get(url), client.post(url, _DATA)):
            nothing = answer.status_code in (302, 405) or "/oidc/" in url
            assert nothing or answer.status_code == 200, url
            if answer.status_code == 200:
                assert url in _OPEN, url
                assert b"Mine" not in answer.content
            elif answer.status_code == 302:
                assert answer["Location"].startswith(_DOORS), url
    assert _rows() == before


@pytest.mark.parametrize("role", [role for role in Role.values if role != "system_administrator"])
def test_a_role_in_one_company_never_reaches_another(world: World, role: str) -> None:
    for og in (world.mine, world.foreign):
        list(addresses(og))
    client = signed_in(world.people[role])
    before = _rows()
    codes = _walk(client, world, "foreign", adds=role != Role.OG_ADMINISTRATOR)
    assert not [url for url, pair in codes.items() if 500 in pair]
    assert _rows() == before


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.HELP_DESK])
def test_who_may_only_read_changes_nothing(world: World, role: str) -> None:
    list(addresses(world.mine))
    client = signed_in(world.people[role])
    before = _rows()
    codes = _walk(client, world, "mine", acts=role != Role.HELP_DESK)
    assert not [url for url, pair in codes.items() if 500 in pair]
    assert codes[f"{BASE}tenants/organizationgroup/"][0] == 200
    assert _rows() == before


def test_a_system_administrator_meets_no_error_and_no_link_changes_anything(
    world: World,
) -> None:
    list(addresses(world.mine))
    client = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    before = _rows()
    for url in addresses(world.mine):
        if not url.endswith("/logout/"):
            answer = client.get(url)
            # Nobody deletes an administrator or adds a device; a look-up must say for which field
            # it is.
            ends = ("/autocomplete/", "/delete/", "/add/", "/oidc/failed/")
            refused = answer.status_code in (401, 403) and url.endswith(ends)
            assert refused or answer.status_code in (200, 302, 404, 405), url
            assert "unsafe-inline" not in _scripts(answer["Content-Security-Policy"])
    assert _rows() == before


def _scripts(policy: str) -> str:
    return next(part for part in policy.split(";") if part.strip().startswith("script-src"))


def test_somebody_without_a_role_is_told_so(world: World) -> None:
    client = signed_in(person("nobody", None))
    answer = client.get(BASE, follow=True)
    assert answer.status_code == 403
    assert b"no role has been given" in answer.content
    assert b"Mine" not in answer.content


def test_a_group_that_may_not_be_seen_can_not_be_chosen(world: World) -> None:
    client = signed_in(world.people[Role.OG_ADMINISTRATOR])
    client.post(f"{BASE}switch/", {"og": world.foreign.pk})
    assert FOREIGN not in client.get(BASE).content.decode()
    client.post(f"{BASE}switch/", {"og": world.below.pk})
    assert 'aria-current="true">Below<' in client.get(BASE).content.decode()
