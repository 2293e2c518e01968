"""What the relay keeps: who may call, for which apps it holds keys, and which calls it has seen.

It keeps no notification, no device token and nothing about users.
"""

from __future__ import annotations

from django.db import models


class Deployment(models.Model):
    """An ENS deployment that may call, known by its secure channel certificate."""

    name = models.CharField(max_length=100, unique=True)
    # base64url of the SHA-256 of the certificate in DER: `x5t#S256` of RFC 7515, section 4.1.8.
    thumbprint = models.CharField(max_length=43, unique=True)
    certificate = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "relay_deployment"

    def __str__(self) -> str:
        return self.name


class PushApp(models.Model):
    """An app at a push service: credentials to push with, and the deployments that may use it."""

    class Platform(models.TextChoices):
        """What callers address; each has an endpoint of its own."""

        APNS = "apns"
        FCM = "fcm"

    class Provider(models.TextChoices):
        """Through whom its pushes go; each has a folder of its own in `providers/`."""

        APNS = "apns"
        FCM = "fcm"
        SNS = "sns"

    platform = models.CharField(max_length=10, choices=Platform.choices)
    provider = models.CharField(
        max_length=10, choices=Provider.choices, default=Provider.APNS, db_default="apns"
    )
    app = models.CharField(max_length=155)
    # Of credentials that release 0.1 stored; since then they are in `summary`.
    key_id = models.CharField(max_length=10, blank=True, default="")
    team_id = models.CharField(max_length=10, blank=True, default="")
    # What the provider's check returned, wrapped by the vault; of release 0.1 the .p8 alone.
    sealed_key = models.BinaryField()
    # Random, new with every replacement of the credentials.
    revision = models.CharField(max_length=32, blank=True, default="", db_default="")
    # What may be shown of them; see `Checked.summary`.
    summary = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), blank=True
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    sandbox = models.BooleanField(default=False)
    # When a push service first accepted a push with this key and environment: until then "bad
    # device token" may as well mean that production and sandbox are mixed up.
    proven_at = models.DateTimeField(null=True)
    # What the push service last had against the credentials or the app's set-up; empty when it
    # has accepted a push since. Somebody must put it right.
    trouble = models.CharField(max_length=64, blank=True, default="", db_default="")
    trouble_at = models.DateTimeField(null=True, blank=True)
    # The least of the days-before-expiry at which it has been told; null: not yet.
    expiry_told_days = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    deployments = models.ManyToManyField(Deployment, related_name="push_apps")

    class Meta:
        db_table = "relay_push_app"
        constraints = [
            models.UniqueConstraint(fields=["platform", "app"], name="relay_push_app_once")
        ]

    def __str__(self) -> str:
        return f"{self.platform}:{self.app}"

    @property
    def shown(self) -> dict[str, str]:
        """What may be shown of the credentials, those of release 0.1 included."""
        if not self.summary and self.key_id:
            return {"kind": "token", "key_id": self.key_id, "team_id": self.team_id}
        return dict(self.summary)


class Nonce(models.Model):
    """A call that has been made; kept while its signature could be presented again."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE)
    nonce = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "relay_nonce"
        constraints = [
            models.UniqueConstraint(fields=["deployment", "nonce"], name="relay_nonce_once")
        ]
