"""The audit log's page: searched, scoped, exported, and nothing else."""

from __future__ import annotations

import csv
import io

import pytest
from django.utils import timezone

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.audit.service import record
from apps.tenants.models import OrganizationGroup
from tests.console.people import BASE, FOREIGN, World, signed_in

pytestmark = pytest.mark.django_db
LOG = f"{BASE}audit/auditentry/"


def entry(actor: str, og_path: str, **after: object) -> None:
    record(
        actor=actor, action="thing.change", target="it", og_path=og_path, before=None, after=after
    )


def test_everybody_sees_their_groups_and_who_sees_all_the_deployments(world: World) -> None:
    entry("ann-mine", world.below.path)
    entry(FOREIGN, world.foreign.path)
    entry("bob-system", "")
    page = signed_in(world.people[Role.AUDITOR]).get(LOG).content.decode()
    assert "ann-mine" in page and FOREIGN not in page and "bob-system" not in page
    page = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR]).get(LOG).content.decode()
    assert "ann-mine" in page and "bob-system" in page
    desk = signed_in(world.people[Role.HELP_DESK])
    assert desk.get(LOG).status_code == 403
    foreign = AuditEntry.objects.get(actor=FOREIGN)
    auditor = signed_in(world.people[Role.AUDITOR])
    assert auditor.get(f"{LOG}{foreign.pk}/change/").status_code in (302, 404)


def test_it_is_searched_and_filtered(world: World) -> None:
    auditor = signed_in(world.people[Role.AUDITOR])
    for name in ("ann-1", "bob-2"):
        entry(name, world.mine.path)
    for query in ("q=ann-", "by=ann", "did=thing&by=ann"):
        page = auditor.get(f"{LOG}?{query}").content.decode()
        assert "ann-1" in page and "bob-2" not in page, query
    assert "ann-1" not in auditor.get(f"{LOG}?did=other").content.decode()
    today = f"{timezone.now():%Y-%m-%d}"
    assert "ann-1" in auditor.get(f"{LOG}?at_from={today}&at_to={today}").content.decode()
    for query in ("at_from=2999-01-01", "at_to=2020-01-01", "at_from=x", "at_to=9999-12-31x"):
        assert "ann-1" not in auditor.get(f"{LOG}?{query}").content.decode(), query


def test_it_is_exported_without_formulas_and_that_is_audited(world: World) -> None:
    entry("=1+1<script>\u202e", world.mine.path, name="=cmd<script>\u202e")
    entry(FOREIGN, world.foreign.path)
    auditor = signed_in(world.people[Role.AUDITOR])
    answer = auditor.get(f"{LOG}export/?q=thing")
    rows = list(csv.reader(io.StringIO(b"".join(answer).decode())))  # type: ignore[arg-type]
    assert len(rows) == 2 and rows[1][1].startswith("'=")
    assert not any(cell.startswith(tuple("=+-@")) for cell in rows[1])
    assert AuditEntry.objects.filter(action="audit.export").exists()
    page = auditor.get(f"{LOG}{AuditEntry.objects.get(actor__startswith='=').pk}/change/")
    assert b"<script>\xe2" not in page.content and "\u202e" not in page.content.decode()


def test_nobody_changes_or_deletes_an_entry(world: World) -> None:
    entry("ann", world.mine.path)
    pk = AuditEntry.objects.get(actor="ann").pk
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    assert chief.post(f"{LOG}{pk}/change/", {"actor": "eve"}).status_code == 403
    assert chief.post(f"{LOG}{pk}/delete/", {"post": "yes"}).status_code == 403
    assert chief.get(f"{LOG}add/").status_code == 403
    assert AuditEntry.objects.get(pk=pk).actor == "ann"


def test_groups_have_names_there_and_no_paths(world: World) -> None:
    chief = signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])
    chief.post(f"{BASE}switch/", {"og": world.mine.pk})
    new = {"name": "Short-lived", "parent": world.mine.pk}
    chief.post(f"{BASE}tenants/organizationgroup/add/", new)
    chief.post(f"{BASE}tenants/mailsystem/add/", {"name": "M", "hosts": "a.example"})
    group = OrganizationGroup.objects.get(name="Short-lived")

    def page(action: str) -> str:
        found = AuditEntry.objects.filter(action=action).latest("id")
        return chief.get(f"{LOG}{found.pk}/change/").content.decode()

    made = page("group.create")
    assert "Short-lived" in made and group.path not in made and "numchild" not in made
    assert "&quot;og&quot;: &quot;Mine&quot;" in page("mail_system.create")
    entry("x", group.path, og=world.foreign.pk)
    assert f"&quot;{FOREIGN}" not in page("thing.change")
    path = group.path
    group.delete()
    told = page("thing.change")
    assert "Short-lived, which is gone" in told and f"{path}, which" not in told
