"""Making administrators, and helping one who can't get in; for the command line and the console."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.administrators.lockout import unlock
from apps.administrators.models import Administrator, RoleAssignment, normal_username
from apps.administrators.roles import Role
from apps.tenants.models import OrganizationGroup


class AccountRefused(Exception):
    """It can't be done; the message is for an administrator and holds no secret."""


def create(
    username: str,
    password: str | None,
    role: str,
    og: OrganizationGroup | None,
    display_name: str = "",
) -> Administrator:
    """Make an administrator with a role in a group, or everywhere (og None).

    Without a password they sign in at the OpenID provider.

    Raises:
        AccountRefused: the name is taken or malformed, the password too weak, or the role is
            one that needs a group.
    """
    refuse_role(role, og)
    made = Administrator(username=normal_username(username), display_name=display_name)
    if password is None:
        made.source = Administrator.Source.OIDC
    _set_password(made, password)
    try:
        made.full_clean(exclude=["password"])
    except ValidationError as error:
        raise AccountRefused(" ".join(error.messages)) from None
    with transaction.atomic():
        made.save()
        RoleAssignment.objects.create(administrator=made, role=role, og=og)
    return made


def refuse_role(role: str, og: OrganizationGroup | None) -> None:
    """Refuse a role in a place that it can't have.

    Raises:
        AccountRefused: no such role, or a system administrator of a single group.
    """
    if role not in Role.values:
        raise AccountRefused(f"no such role; there are {', '.join(Role.values)}")
    if role == Role.SYSTEM_ADMINISTRATOR and og is not None:
        raise AccountRefused("a system administrator answers for the whole deployment")


def find(username: str) -> Administrator:
    """The administrator of this name.

    Raises:
        AccountRefused: there is none.
    """
    try:
        return Administrator.objects.get_by_natural_key(username)
    except Administrator.DoesNotExist:
        raise AccountRefused("there is no administrator of this name") from None


def reset(administrator: Administrator, password: str | None) -> None:
    """Give somebody a new password, forget their second factor, lift their lock.

    Their sessions end, since they depend on the password.

    Raises:
        AccountRefused: the password is too weak.
    """
    _set_password(administrator, password)
    with transaction.atomic():
        administrator.save(update_fields=["password"])
        reset_second_factor(administrator)
        unlock(administrator.username)


def reset_second_factor(administrator: Administrator) -> int:
    """Forget somebody's authenticator app and recovery codes; how many there were."""
    return int(Authenticator.objects.filter(user=administrator).delete()[0])


def _set_password(administrator: Administrator, password: str | None) -> None:
    if password is None:
        administrator.set_unusable_password()
        return
    try:
        validate_password(password, administrator)
    except ValidationError as error:
        raise AccountRefused(" ".join(error.messages)) from None
    administrator.set_password(password)
