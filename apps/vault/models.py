"""The vault's own keys, each wrapped under the master key."""

from __future__ import annotations

from django.db import models


class VaultKey(models.Model):
    """A lookup key or a URL MAC key. A number is never given twice, a key never changes."""

    class Kind(models.TextChoices):
        LOOKUP = "lookup"
        URL_MAC = "url_mac"

    kind = models.CharField(max_length=16, choices=Kind)
    number = models.PositiveIntegerField()
    wrapped = models.BinaryField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "vault_key"
        constraints = [
            models.UniqueConstraint(fields=["kind", "number"], name="vault_key_made_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} key {self.number}"
