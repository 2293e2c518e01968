"""Making and finding organization groups."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from apps.tenants.models import OrganizationGroup

_NAME_LENGTH = 200  # of every name and label in apps/tenants/models.py


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
    tree = OrganizationGroup.objects
    siblings = tree.get_children(parent) if parent else tree.get_root_nodes()
    if siblings.filter(name=name).exists():
        raise GroupRefused("there is already an organization group of this name here")
    made: OrganizationGroup = (
        tree.add_child(parent, {"name": name}) if parent else tree.add_root({"name": name})
    )
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
