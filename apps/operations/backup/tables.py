"""Which tables are in a backup, and why others are not. Each model is named here: a test asks.

A restore brings back devices, not credentials: whatever opens credentials, or says what is going
on at this moment, stays out.
"""

from __future__ import annotations

from typing import Final

from django.apps import apps
from django.db import models

KEPT: Final = (
    "vault.VaultKey",
    "relay.Deployment",
    "relay.PushApp",
    "relay.PushApp_deployments",
    "relay.Nonce",  # or a call of the last minutes could be made a second time
    "tenants.OrganizationGroup",
    "tenants.MailSystem",
    "tenants.ApiToken",
    "tenants.OgSetting",
    "keypairs.SigningKey",  # phones know them, and believe nobody else's announcements
    "devices.Mailbox",
    "devices.Device",
    "devices.Block",
    "history.Story",
    "history.LooseEntry",
    "cns.SecureChannelKey",
    "cns.Site",
    "cns.Pin",
    "subscriptions.RefusedCredential",  # or a changed password could lock its account
    "administrators.Administrator",
    "administrators.RoleAssignment",
    "administrators.DirectoryIdentity",
    "administrators.AdminApiToken",
    "account.EmailAddress",
    "mfa.Authenticator",
    "socialaccount.SocialAccount",
    "audit.AuditEntry",
)

LEFT_OUT: Final = {
    "keypairs.KeyPair": "RSA keys open what phones send: each deployment makes its own",
    "keypairs.OpenedJwe": "goes with its key pair",
    "keypairs.SealedCredential": "the keys of sealed credentials: a copy could not be shredded",
    "subscriptions.Subscription": "nothing without its credentials: phones join again",
    "subscriptions.WakeUp": "made anew for every phone",
    "subscriptions.WakeRate": "of the last second",
    "subscriptions.Scan": "our own absence starts it anew",
    "eventlog.LogEntry": "refers to subscriptions and their keys",
    "eventlog.Turn": "a lock",
    "eventlog.DeadLetter": "refers to subscriptions",
    "eventlog.UnwantedPartition": "refers to subscriptions",
    "eventlog.Sign": "refers to subscriptions",
    "eventlog.SeenMark": "of some days; a repeated push replaces the one before it",
    "operations.Lease": "who is beat at this moment",
    "alerts.Alert": "what is wrong is found anew",
    "alerts.Message": "what was to be told is old",
    "history.MinuteCount": "figures of the last hours",
    "api.AttemptWindow": "failures of the last minutes",
    "administrators.UsedCode": "codes of the last minute",
    "sessions.Session": "people sign in again",
    "account.EmailConfirmation": "not used",
    "socialaccount.SocialApp": "stands in ens.env",
    "socialaccount.SocialToken": "credentials of a session",
    "axes.AccessFailureLog": "of the last hours",
    "axes.AccessAttempt": "locks of a quarter of an hour",
    "axes.AccessAttemptExpiration": "goes with its attempt",
    "axes.AccessLog": "of the last hours; the audit log has sign-ins",
    "admin.LogEntry": "not used: the audit log is",
    "auth.Permission": "made by migrate; not used",
    "auth.Group_permissions": "not used",
    "auth.Group": "not used",
    "contenttypes.ContentType": "made by migrate",
}


def kept() -> list[type[models.Model]]:
    """The models of a backup that this installation has, each after those that it refers to."""
    wanted = [apps.get_model(label) for label in KEPT if apps.is_installed(_app(label))]
    ordered: list[type[models.Model]] = []
    while wanted:
        ready = [model for model in wanted if not _parents(model) & set(wanted) - {model}]
        ordered += ready
        wanted = [model for model in wanted if model not in ready]
    return ordered


def _parents(model: type[models.Model]) -> set[type[models.Model]]:
    fields = model._meta.concrete_fields
    return {field.related_model for field in fields if isinstance(field, models.ForeignKey)}


def _app(label: str) -> str:
    wanted = label.partition(".")[0]
    return next((config.name for config in apps.get_app_configs() if config.label == wanted), "")
