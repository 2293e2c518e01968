"""The secure channel keys that this deployment made: which one signs, and which are out there."""

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
