"""Attempts counted in windows of time, shared by all web servers."""

from __future__ import annotations

from django.db import models


class AttemptWindow(models.Model):
    """How often something was tried in one window, by its first Unix second; the key is an HMAC."""

    key_hmac = models.CharField(max_length=64)
    window = models.BigIntegerField()
    attempts = models.IntegerField(default=0)

    class Meta:
        db_table = "api_attempt_window"
        constraints = [
            models.UniqueConstraint(fields=["key_hmac", "window"], name="one_row_a_window")
        ]
