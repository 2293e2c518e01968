"""Making and finding organization groups."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import transaction
from django.db.models import ProtectedError, QuerySet

from apps.audit.service import remembers
from apps.tenants.models import OgSetting, OrganizationGroup

_NAME_LENGTH = 200  # of every name and label in apps/tenants/models.py
_TAKEN = "there is already an organization group of this name here"


class GroupRefused(Exception):
    """The group can't be made or found; the message is one line for an administrator."""


def plain_name(text: str) -> str:
    """A name or label as it may be stored: trimmed, 1 to 200 printable characters.

    Raises:
        ValueError: it isn't.
    """
    name = text.strip()
    if not 1 <= len(name) <= _NAME_LENGTH or not name.isprintable():
        raise ValueError(f"a name needs 1 to {_NAME_LENGTH} printable characters")
    return name


def create_group(name: str, parent: OrganizationGroup | None = None) -> OrganizationGroup:
    """Make an organization group, a root when no parent is given.

    Raises:
        GroupRefused: the name is empty, too long, or taken by a sibling.
    """
    try:
        name = plain_name(name)
    except ValueError as error:
        raise GroupRefused(str(error)) from None
    if _siblings(parent).filter(name=name).exists():
        raise GroupRefused(_TAKEN)
    with transaction.atomic():
        return _placed(name, parent)


def _placed(name: str, parent: OrganizationGroup | None) -> OrganizationGroup:
    """Make a group at a path of its own.

    The tree hands the path of its last group out again once that is deleted. What is still known
    by the path, as audit entries and blocks are, would be the next group's: another company's.
    """
    tree, passed = OrganizationGroup.objects, []
    while True:
        made: OrganizationGroup = (
            tree.add_child(parent, {"name": name}) if parent else tree.add_root({"name": name})
        )
        if not remembers(made.path):
            break
        passed.append(made.pk)
    if passed:
        tree.filter(pk__in=passed).delete()
    return made


def find_group(name_or_guid: str) -> OrganizationGroup:
    """Find a group by its GUID, or by its name where only one group has it.

    Raises:
        GroupRefused: none or several match.
    """
    try:
        found = OrganizationGroup.objects.filter(guid=uuid.UUID(name_or_guid))
    except ValueError:
        found = OrganizationGroup.objects.filter(name=name_or_guid)
    groups: Sequence[OrganizationGroup] = found[:2]
    if not groups:
        raise GroupRefused("there is no such organization group")
    if len(groups) > 1:
        raise GroupRefused("several organization groups have this name; give the GUID")
    return groups[0]


def rename_group(og: OrganizationGroup, name: str) -> None:
    """Give a group another name.

    Raises:
        GroupRefused: the name is empty, too long, or taken by a sibling.
    """
    try:
        name = plain_name(name)
    except ValueError as error:
        raise GroupRefused(str(error)) from None
    if _siblings(og.parent()).filter(name=name).exclude(pk=og.pk).exists():
        raise GroupRefused(_TAKEN)
    OrganizationGroup.objects.filter(pk=og.pk).update(name=name)
    og.name = name


def what_keeps(og: OrganizationGroup) -> list[str]:
    """What hangs on a group and so keeps it from being deleted, in words: `2 devices`."""
    found = []
    below = OrganizationGroup.objects.filter(path__startswith=og.path).exclude(pk=og.pk)
    if count := below.count():
        found.append(_counted(count, "group below it", "groups below it"))
    for relation in og._meta.related_objects:
        model = relation.related_model
        # Its settings go with it, and so do its key pairs, which hide their relation.
        if model is OgSetting or isinstance(model, str):
            continue
        if count := model._default_manager.filter(**{relation.field.name: og}).count():
            names = model._meta.verbose_name, model._meta.verbose_name_plural
            found.append(_counted(count, *map(str, names)))
    return found


def delete_group(og: OrganizationGroup) -> None:
    """Delete a group on which nothing hangs.

    Raises:
        GroupRefused: something does; the message names what.
    """
    with transaction.atomic():
        if kept := what_keeps(og):
            raise GroupRefused(f"it is not empty: {', '.join(kept)}")
        try:
            OrganizationGroup.objects.filter(pk=og.pk).delete()
        except ProtectedError:  # somebody was quicker
            raise GroupRefused("it is not empty") from None


def _siblings(parent: OrganizationGroup | None) -> QuerySet[OrganizationGroup]:
    tree = OrganizationGroup.objects
    found: QuerySet[OrganizationGroup] = (
        tree.get_children(parent) if parent else tree.get_root_nodes()
    )
    return found


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
