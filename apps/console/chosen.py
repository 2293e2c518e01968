"""Which organization group an administrator is looking at: chosen in the header, then remembered.

Whatever a page shows is of this group and those below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.http import HttpRequest

from apps.administrators.models import Administrator
from apps.administrators.scope import permitted_paths, visible_ogs
from apps.tenants.models import OrganizationGroup

_SESSION_KEY: Final = "organization_group"
_CACHE: Final = "_ens_visible_ogs"
_IDS_AT_MOST: Final = 500


def user_of(request: HttpRequest) -> Administrator | AnonymousUser:
    """Who asks."""
    return request.user


def administrator_of(request: HttpRequest) -> Administrator:
    """Who asks, behind a door that lets no anonymous visitor in."""
    return cast(Administrator, request.user)


def groups_of(request: HttpRequest) -> Sequence[OrganizationGroup]:
    """Every organization group that the visitor may see, parents first. One query a request."""
    carrier: Any = request
    if not hasattr(carrier, _CACHE):
        setattr(carrier, _CACHE, list(visible_ogs(user_of(request))))
    return cast("Sequence[OrganizationGroup]", getattr(carrier, _CACHE))


def chosen_og(request: HttpRequest) -> OrganizationGroup | None:
    """The group that was chosen, else the first one there is; None where nothing may be seen."""
    groups = groups_of(request)
    wanted = request.session.get(_SESSION_KEY)
    return next((group for group in groups if group.pk == wanted), groups[0] if groups else None)


def sees_every_row(request: HttpRequest) -> bool:
    """Whether every group there is is the chosen one or below: mostly, the one company's root."""
    og = chosen_og(request)
    if og is None or permitted_paths(user_of(request), "console.read") is not None:
        return False
    return all(group.path.startswith(og.path) for group in groups_of(request))


def of_chosen(request: HttpRequest, field: str) -> Q:
    """Rows whose group (`field`, a foreign key) is the chosen one or below; none without a group.

    By ids, so that a table of a hundred thousand rows needs no join to be counted or sorted; by
    path where these would be too many for a statement.
    """
    og = chosen_og(request)
    if og is None:
        return Q(pk__in=[])
    if sees_every_row(request):
        return Q()
    ids = [group.pk for group in groups_of(request) if group.path.startswith(og.path)]
    if len(ids) > _IDS_AT_MOST:
        return Q(**{f"{field}__path__startswith": og.path})
    return Q(**{f"{field}__in": ids})


def choose(request: HttpRequest, og: OrganizationGroup) -> None:
    """Look at another group from now on. Its caller has made sure that it may be seen."""
    request.session[_SESSION_KEY] = og.pk


def forget_groups(request: HttpRequest) -> None:
    """Read the groups anew: this request has changed them."""
    vars(request).pop(_CACHE, None)
