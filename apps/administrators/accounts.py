"""Making administrators, and helping one who can't get in; for the command line and the console."""

from __future__ import annotations

from typing import Final

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.administrators.lockout import unlock
from apps.administrators.models import Administrator, RoleAssignment, normal_username
from apps.administrators.roles import Role
from apps.tenants.models import OrganizationGroup

# What allauth calls the one OpenID provider there is (ens_project/console.py).
OIDC_PROVIDER: Final = "company"
_LONGEST_SUBJECT: Final = 191


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

    Without a password they sign in at the OpenID provider, once they are tied to it (`link`).

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

    Their sessions end, since they depend on the password. Who signs in elsewhere gets none.

    Raises:
        AccountRefused: the password is too weak.
    """
    local = administrator.source == Administrator.Source.LOCAL
    _set_password(administrator, password if local else None)
    with transaction.atomic():
        administrator.save(update_fields=["password"])
        reset_second_factor(administrator)
        unlock(administrator.username)


def link(administrator: Administrator, subject: str) -> None:
    """Tie somebody to a `sub` of the OpenID provider that is set up now; empty: to none.

    Raises:
        AccountRefused: they don't sign in at the provider, none is set up, or this `sub` is
            somebody else's or malformed.
    """
    if administrator.source != Administrator.Source.OIDC:
        raise AccountRefused("this administrator does not sign in at the OpenID provider")
    if subject and settings.ENS.oidc_issuer is None:
        raise AccountRefused("no OpenID provider is set up (ENS_OIDC_ISSUER)")
    if len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
        raise AccountRefused("this is no identifier of an OpenID provider")
    place = {"provider": OIDC_PROVIDER, "uid": subject}
    if subject and SocialAccount.objects.filter(**place).exclude(user=administrator).exists():
        raise AccountRefused("another administrator has this identifier")
    with transaction.atomic():
        unlink(administrator)
        if subject:
            issuer = {"issuer": settings.ENS.oidc_issuer}
            SocialAccount.objects.create(user=administrator, extra_data=issuer, **place)


def unlink(administrator: Administrator) -> None:
    """Tie somebody to the OpenID provider no longer."""
    SocialAccount.objects.filter(user=administrator).delete()


def subject_of(administrator: Administrator) -> str:
    """The `sub` to which somebody is tied; empty: none."""
    found = SocialAccount.objects.filter(user=administrator).first()
    return str(found.uid) if found else ""


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
