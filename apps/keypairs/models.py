"""Key pairs, what was opened with them, and the keys of sealed credentials."""

from __future__ import annotations

from django.db import models

from apps.tenants.models import OrganizationGroup


class KeyPair(models.Model):
    """An RSA key pair of an OG.

    Its pairs follow each other by number: the current one is the first whose `current_until` is
    still to come, so the next takes over without anybody doing anything. JWEs are opened until
    `expires_at`.
    """

    og = models.ForeignKey(OrganizationGroup, models.CASCADE, related_name="+")
    number = models.PositiveIntegerField()
    kid = models.CharField(max_length=32, unique=True)
    bits = models.PositiveSmallIntegerField()
    public_jwk = models.JSONField()
    wrapped_private = models.BinaryField()
    created_at = models.DateTimeField()
    current_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["og", "number"], name="keypairs_keypair_made_once"),
        ]

    def __str__(self) -> str:
        return f"key pair {self.kid}"


class OpenedJwe(models.Model):
    """A JWE that was opened: there is no second time."""

    key_pair = models.ForeignKey(KeyPair, models.CASCADE, related_name="+")
    jti_hash = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key_pair", "jti_hash"], name="keypairs_openedjwe_opened_once"
            ),
        ]

    def __str__(self) -> str:
        return f"opened JWE {self.pk}"


class SigningKey(models.Model):
    """An ES256 key with which an OG's announcements are signed; its keys follow by number.

    Phones are told of it from its making until `expires_at`.
    """

    og = models.ForeignKey(OrganizationGroup, models.CASCADE, related_name="+")
    number = models.PositiveIntegerField()
    kid = models.CharField(max_length=32, unique=True)
    public_jwk = models.JSONField()
    wrapped_private = models.BinaryField()
    created_at = models.DateTimeField()
    current_until = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["og", "number"], name="keypairs_signingkey_made_once"),
        ]

    def __str__(self) -> str:
        return f"signing key {self.kid}"


class SealedCredential(models.Model):
    """Our part of a subscription's sealed credentials; the other part is in the webhook URL.

    `ciphertext` is empty unless the credentials were too long for the URL.
    """

    subscription_id = models.UUIDField(primary_key=True)
    wrapped_key = models.BinaryField()
    ciphertext = models.BinaryField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"sealed credentials of {self.subscription_id}"
