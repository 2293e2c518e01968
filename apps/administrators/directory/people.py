"""Accounts and roles as the company's directory says.

Who somebody is, their objectGUID or entryUUID says, never their name: an account made here, or for
another person of the directory, is not opened by one who is called the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apps.administrators.directory import ask
from apps.administrators.directory.child import Answer
from apps.administrators.models import (
    Administrator,
    DirectoryIdentity,
    RoleAssignment,
    normal_username,
)
from apps.audit.service import record
from apps.tenants.models import OrganizationGroup

log = logging.getLogger(__name__)


def may_ask_for(name: str) -> bool:
    """Whether the directory is asked for this name: not for one that signs in in another way.

    So a password mistyped at an account of ours never reaches the directory.
    """
    found = Administrator.objects.filter(username=normal_username(name)).first()
    return found is None or found.source == Administrator.Source.LDAP


def welcome(answer: Answer) -> Administrator | None:
    """The administrator whom the directory has found, with the roles that it gives them now.

    An account is made at the first time. None for whom the directory has disabled, who is in
    none of the groups, or whose name is another account's; and then there is nothing left of the
    roles they had.
    """
    with transaction.atomic():
        known = _known(answer.uid)
        if not answer.enabled or not _assignments(answer):
            if known is not None:
                take_away(known.administrator)
            return None
        person = _named(known.administrator, answer) if known else _made(answer)
        if person is not None:
            _give(person, _assignments(answer))
            DirectoryIdentity.objects.filter(administrator=person).update(
                confirmed_at=timezone.now()
            )
    return person


def refresh() -> None:
    """Look everybody up again who has a role by the directory.

    Without a service account nobody can be looked up: their roles end with the longest session.
    While the directory is away everybody stays what they are.
    """
    people = DirectoryIdentity.objects.filter(administrator__assignments__isnull=False).distinct()
    if not ask.is_configured() or not ask.has_service_account():
        over = timezone.now() - timedelta(hours=settings.ENS.console_session_hours)
        for one in people.filter(confirmed_at__lt=over).select_related("administrator"):
            take_away(one.administrator)
        return
    for one in people.select_related("administrator"):
        try:
            answer = ask.look(one.uid)
        except ask.DirectoryAway:
            return
        if answer.outcome == "found" and answer.uid == one.uid:
            welcome(answer)
        else:
            take_away(one.administrator)


def take_away(person: Administrator) -> None:
    """Nothing is left of somebody's roles, and their sessions end."""
    with transaction.atomic():
        before = _words(person)
        if not before:
            return
        person.assignments.all().delete()
        person.set_unusable_password()  # a new random one: sessions depend on it
        person.save(update_fields=["password"])
        _audit(person, "directory.leave", before, [])


def _known(uid: str) -> DirectoryIdentity | None:
    rows = DirectoryIdentity.objects.select_related("administrator")
    return rows.filter(uid=uid, administrator__source=Administrator.Source.LDAP).first()


def _made(answer: Answer) -> Administrator | None:
    made = Administrator(
        username=normal_username(answer.name),
        display_name=answer.display_name[:200],
        source=Administrator.Source.LDAP,
    )
    made.set_unusable_password()
    try:
        made.full_clean(exclude=["password"])
    except ValidationError:  # taken by another account, or no name that we could show
        log.warning(
            "somebody in the directory has a name that another account has, or is malformed"
        )
        return None
    made.save()
    DirectoryIdentity.objects.create(administrator=made, uid=answer.uid)
    _audit(made, "directory.join", [], [])
    return made


def _named(person: Administrator, answer: Answer) -> Administrator:
    """With the names that the directory gives them now; a taken one is left alone."""
    name = normal_username(answer.name)
    if name != person.username and not Administrator.objects.filter(username=name).exists():
        person.username = name
    person.display_name = answer.display_name[:200]
    person.save(update_fields=["username", "display_name"])
    return person


def _assignments(answer: Answer) -> set[tuple[str, int | None]]:
    """The roles of the groups that somebody is in, each with our group; None: everywhere."""
    ours = settings.ENS.ldap_groups
    groups = [ours[place] for place in answer.groups if place < len(ours)]
    guids = [group.og for group in groups if group.og is not None]
    known = dict(OrganizationGroup.objects.filter(guid__in=guids).values_list("guid", "pk"))
    return {
        (group.role, known[group.og] if group.og else None)
        for group in groups
        if group.og is None or group.og in known
    }


def _give(person: Administrator, wanted: set[tuple[str, int | None]]) -> None:
    has = {(one.role, one.og_id): one for one in person.assignments.all()}
    if set(has) == wanted:
        return
    before = _words(person)
    for key in set(has) - wanted:
        has[key].delete()
    RoleAssignment.objects.bulk_create(
        RoleAssignment(administrator=person, role=role, og_id=og)
        for role, og in sorted(wanted - set(has), key=str)
    )
    _audit(person, "directory.roles", before, _words(person))


def _words(person: Administrator) -> list[str]:
    rows = RoleAssignment.objects.filter(administrator=person).select_related("og")
    return sorted(str(row) for row in rows)


def _audit(person: Administrator, action: str, before: Iterable[str], after: Iterable[str]) -> None:
    record(
        actor="directory",
        action=f"administrator.{action}",
        target=person.username,
        og_path="",
        before={"roles": list(before)},
        after={"roles": list(after)},
    )
