"""What the processes of a deployment agree on among themselves."""

from __future__ import annotations

from django.db import models


class Lease(models.Model):
    """Who may do what one process alone does, and until when (seconds, by the database's clock)."""

    name = models.CharField(max_length=40, primary_key=True)
    holder = models.CharField(max_length=120, default="", blank=True)
    expires_at = models.FloatField(default=0.0)

    class Meta:
        db_table = "operations_lease"

    def __str__(self) -> str:
        return self.name
