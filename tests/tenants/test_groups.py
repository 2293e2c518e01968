"""Making and deleting organization groups."""

from __future__ import annotations

import pytest

from apps.audit.service import record, visible
from apps.tenants.groups import create_group, delete_group
from apps.tenants.models import OrganizationGroup

pytestmark = pytest.mark.django_db


def note(og: OrganizationGroup) -> None:
    record(
        actor="anna", action="group.change", target=og.name, og_path=og.path, before=None, after={}
    )


@pytest.mark.parametrize("below", [False, True], ids=["roots", "children"])
def test_a_new_group_inherits_nothing_of_one_that_was_deleted(below: bool) -> None:
    parent = create_group("Parent") if below else None
    create_group("First", parent)
    for name in ("Former", "Former too"):
        og = create_group(name, parent)
        note(og)
        delete_group(og)
    heir = create_group("Heir", parent)
    assert not visible([heir.path]).exists()
    assert [og.name for og in OrganizationGroup.objects.order_by("path")][-2:] == ["First", "Heir"]
    if parent is not None:
        parent.refresh_from_db()
        assert parent.numchild == 2 and heir.parent() == parent
