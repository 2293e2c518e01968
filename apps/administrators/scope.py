"""Who may see and do what where. Every page, action and API call asks here.

An assignment holds for its organization group and all below it, so what somebody may see is always
made of whole subtrees: a group above them is never seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, Q, QuerySet

from apps.administrators.roles import PERMISSIONS, ROLE_PERMISSIONS
from apps.tenants.models import OrganizationGroup

if TYPE_CHECKING:
    from apps.administrators.models import Administrator

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Standing:
    """The roles of one person: pairs of a role and the path of its group; None: everywhere."""

    roles: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, administrator: Administrator) -> Standing:
        """Read them. One query."""
        return cls(tuple(administrator.assignments.values_list("role", "og__path")))

    def anywhere(self, permission: str) -> bool:
        """Whether some role of theirs allows it somewhere."""
        return any(permission in ROLE_PERMISSIONS.get(role, ()) for role, _ in self.roles)

    def paths(self, permission: str) -> list[str] | None:
        """The topmost paths below which they may do it; None: everywhere."""
        found = [path for role, path in self.roles if permission in ROLE_PERMISSIONS.get(role, ())]
        if None in found:
            return None
        top: list[str] = []
        for path in sorted(path for path in found if path is not None):
            if not top or not path.startswith(top[-1]):
                top.append(path)
        return top


def visible_ogs(
    user: Administrator | AnonymousUser, permission: str = "console.read"
) -> QuerySet[OrganizationGroup]:
    """The organization groups where somebody holds a permission, parents before children."""
    groups: QuerySet[OrganizationGroup] = OrganizationGroup.objects.order_by("path")
    return below(groups, permitted_paths(user, permission), "path")


def below(rows: QuerySet[M], paths: Collection[str] | None, field: str) -> QuerySet[M]:
    """Those of the rows whose `field` (a tree path) is one of the paths or below; None: all."""
    if paths is None:
        return rows
    wanted = Q()
    for path in filter(None, paths):
        wanted |= Q(**{f"{field}__startswith": path})
    return rows.filter(wanted) if wanted else rows.none()


def permitted_paths(user: Administrator | AnonymousUser, permission: str) -> list[str] | None:
    """The topmost paths where somebody holds a permission; None: everywhere.

    Raises:
        KeyError: there is no such permission.
    """
    if permission not in PERMISSIONS:
        raise KeyError(permission)
    if isinstance(user, AnonymousUser) or not user.is_active:
        return []
    return user.standing.paths(permission)


def may(user: Administrator | AnonymousUser, permission: str, og: OrganizationGroup | None) -> bool:
    """Whether somebody may do something in a group; og None: to the deployment as a whole.

    Raises:
        KeyError: there is no such permission.
    """
    paths = permitted_paths(user, permission)
    if paths is None:
        return True
    return og is not None and any(og.path.startswith(path) for path in paths)


def may_somewhere(user: Administrator | AnonymousUser, permission: str) -> bool:
    """Whether somebody may do something in at least one group.

    Raises:
        KeyError: there is no such permission.
    """
    return permitted_paths(user, permission) != []
