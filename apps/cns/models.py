"""What an administrator decides about the CNS: its address and the way to it, pins, keys."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class SecureChannelKey(models.Model):
    """A key with which calls to the relay are signed, and its certificate, which the relay knows.

    `sealed_key` is wrapped by the vault; null for one whose private half left in a `config.xml`.
    """

    class Use(models.TextChoices):
        """NEXT waits for the relay to know it; PREVIOUS signed before; EXPORTED is in a file."""

        NEXT = "next"
        CURRENT = "current"
        PREVIOUS = "previous"
        EXPORTED = "exported"

    # base64url of the SHA-256 of the certificate in DER: what the relay goes by.
    thumbprint = models.CharField(max_length=43, unique=True)
    label = models.CharField(max_length=64)
    certificate = models.TextField()
    sealed_key = models.BinaryField(null=True)
    use = models.CharField(max_length=10, choices=Use.choices)
    created_at = models.DateTimeField()
    used_from = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    audit_secret: ClassVar = frozenset({"sealed_key"})

    class Meta:
        db_table = "cns_secure_channel_key"

    def __str__(self) -> str:
        return f"{self.label} {self.thumbprint[:8]}"


class Site(models.Model):
    """The CNS of this deployment; the one row, number 1. What is empty is as `ens.env` says."""

    url = models.CharField(max_length=1000, blank=True, default="")
    ca_pem = models.TextField(blank=True, default="")
    # Off: the proxy is what ens.env says.
    proxy_chosen = models.BooleanField(default=False)
    proxy_url = models.CharField(max_length=300, blank=True, default="")
    proxy_auth = models.CharField(max_length=10, default="none")
    sealed_proxy_login = models.BinaryField(null=True)

    audit_secret: ClassVar = frozenset({"sealed_proxy_login"})

    class Meta:
        db_table = "cns_site"

    def __str__(self) -> str:
        return "Cloud Notification Service"


class Pin(models.Model):
    """A certificate whose key the host of the CNS may show; one of a host's pins must match."""

    host = models.CharField(max_length=253)
    # base64 of the SHA-256 of the SubjectPublicKeyInfo (RFC 7469, section 2.4).
    spki = models.CharField(max_length=44)
    subject = models.CharField(max_length=300)
    certificate = models.TextField()
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "cns_pin"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "spki"], name="cns_pin_once")
        ]

    def __str__(self) -> str:
        return f"{self.host} {self.spki[:8]}"
