"""The diagnostics page: what a check found, with its advice; a login is used once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.diagnosis import registry
from apps.diagnosis.registry import Check, Context, Step
from tests.console.people import BASE, World, signed_in

pytestmark = pytest.mark.django_db
PAGE = f"{BASE}diagnostics/"
SECRET = "hunter2-canary"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Context]:
    """Two checks that tell what they were asked; what others there are stays out of the way."""
    contexts: list[Context] = []

    def scoped(context: Context) -> Iterator[Step]:
        contexts.append(context)
        yield Step("TLS", "failed", "<script>bad()</script>", "Renew the certificate.")

    def wide(context: Context) -> Iterator[Step]:
        contexts.append(context)
        yield Step("Broker", "ok", "it answers")

    checks = {
        "exchange.t": Check("exchange.t", "Mail servers", "exchange", False, scoped),
        "deployment.t": Check("deployment.t", "Queue", "deployment", True, wide),
    }
    monkeypatch.setattr(registry, "_checks", checks)
    return contexts


def test_what_was_found_is_shown_with_advice(world: World, asked: list[Context]) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    assert chief.get(PAGE).status_code == 200 and not asked
    page = chief.post(PAGE, {"area": "all"}).content.decode()
    assert "Renew the certificate." in page and "it answers" in page
    assert "<script>bad()" not in page
    assert [one.og_paths for one in asked] == [None, None]
    assert AuditEntry.objects.filter(action="diagnostics.run").exists()


def test_who_sees_a_group_tests_its_mail_systems_only(world: World, asked: list[Context]) -> None:
    desk = signed_in(world.people[Role.HELP_DESK])
    page = desk.post(PAGE, {"area": "all"}).content.decode()
    assert "Renew the certificate." in page and "it answers" not in page
    assert [one.og_paths for one in asked] == [(world.mine.path,)]
    assert desk.post(PAGE, {"area": "deployment"}).status_code == 200 and len(asked) == 1
    assert signed_in(world.people[Role.AUDITOR]).get(PAGE).status_code == 403


def test_a_login_is_used_once_and_kept_nowhere(world: World, asked: list[Context]) -> None:
    desk = signed_in(world.people[Role.HELP_DESK])
    sent = {"area": "exchange", "address": "a@b.example", "username": "u", "password": SECRET}
    page = desk.post(PAGE, sent).content.decode()
    assert asked[0].password == SECRET
    assert SECRET not in page and SECRET not in repr(list(AuditEntry.objects.values()))
    assert SECRET not in repr(dict(desk.session))


def test_the_way_back_can_be_taken_along(world: World) -> None:
    answer = signed_in(world.people[Role.HELP_DESK]).get(f"{PAGE}test-from-exchange/")
    assert b"ens.example" in answer.content
    assert answer["Content-Disposition"].endswith('.ps1"')
