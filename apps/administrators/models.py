"""Administrators, what roles they have where, and the tokens of programs that act for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import models
from django.utils import timezone

from apps.administrators.roles import PERMISSIONS, Role
from apps.tenants.models import OrganizationGroup

if TYPE_CHECKING:
    from apps.administrators.scope import Standing


class AdministratorManager(BaseUserManager["Administrator"]):
    """Finds administrators by the name they sign in with, in whatever case it was typed."""

    def get_by_natural_key(self, username: str | None) -> Administrator:
        """The administrator of this name; Administrator.DoesNotExist if there is none."""
        return self.get(username=normal_username(username or ""))


def normal_username(text: str) -> str:
    """A user name as it is stored and compared: NFKC, lower-case, without blanks around it."""
    return str(Administrator.normalize_username(text)).strip().lower()


class Administrator(AbstractBaseUser):
    """A person who may sign in to the console. What for, their role assignments say.

    `source` is where they sign in: with a password kept here, at the company's OpenID provider, or
    with a password that the company's directory knows.
    """

    class Source(models.TextChoices):
        LOCAL = "local", "Password"
        OIDC = "oidc", "OpenID provider"
        LDAP = "ldap", "Directory"

    username = models.CharField(
        "user name", max_length=150, unique=True, validators=[UnicodeUsernameValidator()]
    )
    display_name = models.CharField("name", max_length=200, blank=True, default="")
    is_active = models.BooleanField(
        "may sign in", default=True, help_text="Clear this instead of deleting the administrator."
    )
    source = models.CharField(
        "signs in with", max_length=20, choices=Source.choices, default=Source.LOCAL
    )
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    audit_secret = ("password",)

    objects = AdministratorManager()

    class Meta:
        ordering: ClassVar = ["username"]

    def __str__(self) -> str:
        return self.username

    def clean(self) -> None:
        self.username = normal_username(self.username)

    def get_full_name(self) -> str:
        """What the console shows for this person."""
        return self.display_name or self.username

    @property
    def is_staff(self) -> bool:
        """Django's admin asks this at its door: whoever has a role may come in."""
        return self.is_active and bool(self.standing.roles)

    @property
    def standing(self) -> Standing:
        """The roles of this person as they were when first asked for, once a request."""
        from apps.administrators.scope import Standing

        found: Standing | None = self.__dict__.get("_standing")
        if found is None:
            found = self.__dict__["_standing"] = Standing.of(self)
        return found

    def has_usable_password(self) -> bool:
        """Whether there is a password that may be asked for again: the directory knows one, too."""
        return self.source == self.Source.LDAP or super().has_usable_password()

    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        """Django's own question. Only our permission names mean anything; see scope.may."""
        return perm in PERMISSIONS and self.is_active and self.standing.anywhere(perm)

    def has_perms(self, perms: Any, obj: object | None = None) -> bool:
        """Whether every one of the permissions is held somewhere."""
        return all(self.has_perm(perm, obj) for perm in perms)

    def has_module_perms(self, app_label: str) -> bool:
        """Whether to show a part of the admin at all; its pages decide for themselves."""
        return self.is_staff


class RoleAssignment(models.Model):
    """A role of an administrator in an organization group and all below it; None: everywhere.

    No UNIQUE over the three: SQL Server takes only one NULL there. A repeated row does no harm.
    """

    administrator = models.ForeignKey(Administrator, models.CASCADE, related_name="assignments")
    og = models.ForeignKey(
        OrganizationGroup,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="role_assignments",
        verbose_name="organization group",
        help_text="With all groups below it. Empty: the whole deployment.",
    )
    role = models.CharField(max_length=30, choices=Role.choices)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.get_role_display()} of {self.og or 'the whole deployment'}"


class DirectoryIdentity(models.Model):
    """Who an administrator is in the company's directory: what never changes there.

    `uid` is the objectGUID or entryUUID. Names are given to others in time, so none counts here.
    """

    administrator = models.OneToOneField(
        Administrator, models.CASCADE, related_name="directory_identity"
    )
    uid = models.CharField(max_length=36, unique=True)
    confirmed_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.uid


class UsedCode(models.Model):
    """A code of an authenticator app that has opened a door, so that it opens no second one."""

    code_hmac = models.CharField(max_length=64, unique=True)
    used_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.pk)


class AdminApiToken(models.Model):
    """A token with which a program calls the admin API: the SHA-256 of it, and what it may do.

    It may do what its scopes name, as far as its owner may, in its group and below.
    """

    owner = models.ForeignKey(Administrator, models.CASCADE, related_name="api_tokens")
    og = models.ForeignKey(
        OrganizationGroup, models.CASCADE, null=True, related_name="admin_api_tokens"
    )
    label = models.CharField(max_length=200)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    audit_secret = ("token_hash",)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.label
