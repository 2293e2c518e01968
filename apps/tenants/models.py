"""The tenant tree and what hangs on its nodes: mail systems, API tokens, overridden settings."""

from __future__ import annotations

import uuid
from typing import ClassVar, Final

from django.db import models
from treebeard.mp_tree import MP_Node

# A list, as the database writes it where an older release leaves a column out.
_EMPTY: Final = models.Value([], models.JSONField())


class OrganizationGroup(MP_Node):
    """A node of the tenant tree. Settings and mail systems are inherited by its descendants."""

    guid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=200)

    class Meta:
        verbose_name = "organization group"

    def __str__(self) -> str:
        return self.name

    def parent(self) -> OrganizationGroup | None:
        """The group above, None for a root. One query."""
        if self.depth == 1:
            return None
        above: OrganizationGroup = OrganizationGroup.objects.get(path=self.path[: -self.steplen])
        return above

    def line_paths(self) -> list[str]:
        """Materialized paths from the root down to this group, so one query reaches them all."""
        return [self.path[:end] for end in range(self.steplen, len(self.path) + 1, self.steplen)]


class MailSystem(models.Model):
    """One Exchange organization as an organization group sees it.

    `hosts` are the only hosts that ENS may call for it, as `normal_host` writes them: lower-case
    A-labels or IP literals, with `:port` where it isn't 443. No host listed means none allowed.

    The rest is the way there: an HTTP proxy (`http://host:port`; its login is wrapped by the
    vault), the oldest TLS that will do, and a gateway in front with the headers that it knows
    devices by (`tenants/ways.py`).

    `smtp_domains`: whose mailboxes it has, in lower-case A-labels; none listed says nothing.
    """

    class TlsFloor(models.TextChoices):
        """The oldest version of TLS that will do."""

        TLS_1_2 = "1.2", "TLS 1.2 (as it should be)"
        TLS_1_1 = "1.1", "TLS 1.1 (broken)"
        TLS_1_0 = "1.0", "TLS 1.0 (broken)"

    og = models.ForeignKey(OrganizationGroup, models.PROTECT, related_name="mail_systems")
    name = models.CharField(max_length=200)
    hosts = models.JSONField(default=list)
    default_ews_url = models.CharField(max_length=1000, blank=True, default="")
    ca_pem = models.TextField(blank=True, default="")
    allow_private = models.BooleanField(default=False)
    proxy_url = models.CharField(max_length=300, blank=True, default="", db_default="")
    proxy_auth = models.CharField(max_length=10, blank=True, default="none", db_default="none")
    sealed_proxy_login = models.BinaryField(null=True)
    tls_floor = models.CharField(
        max_length=3,
        choices=TlsFloor.choices,
        default=TlsFloor.TLS_1_2,
        db_default="1.2",
        blank=True,
    )
    gateway = models.BooleanField(default=False, db_default=False)
    # Lines such as `X-Device-Id: {eas_id}`, and HTTP statuses; empty for the usual ones.
    gateway_headers = models.JSONField(default=list, db_default=_EMPTY, blank=True)
    gateway_refusals = models.JSONField(default=list, db_default=_EMPTY, blank=True)

    audit_secret: ClassVar = frozenset({"sealed_proxy_login"})
    smtp_domains = models.JSONField(default=list, db_default=_EMPTY, blank=True)
    # Whether EWS addresses may be looked for by Autodiscover, for phones that bring none.
    autodiscover = models.BooleanField(default=True, db_default=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["og", "name"], name="tenants_mailsystem_og_name")
        ]

    def __str__(self) -> str:
        return self.name


class ApiToken(models.Model):
    """The SHA-256 (hex) of an API token that names its organization group."""

    og = models.ForeignKey(OrganizationGroup, models.PROTECT, related_name="api_tokens")
    token_hash = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    # To the hour: a roll-out of thousands of phones must not write a row for each.
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.label


class OgSetting(models.Model):
    """One setting that an organization group overrides; key is `<section>.<field>`.

    The value is a list of one: SQL Server's ISJSON, which guards the column, refuses bare values.
    """

    og = models.ForeignKey(OrganizationGroup, models.CASCADE, related_name="overrides")
    key = models.CharField(max_length=120)
    value = models.JSONField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["og", "key"], name="tenants_ogsetting_og_key")
        ]

    def __str__(self) -> str:
        return self.key
