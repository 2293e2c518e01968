"""Alerts and what is still to be told of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class Severity(models.TextChoices):
    """WARNING: look at it today. CRITICAL: phones are silent, or somebody intrudes."""

    WARNING = "warning"
    CRITICAL = "critical"


class Alert(models.Model):
    """Something that is, or was, wrong. `key` names it: a code, and where it needs one an id."""

    key = models.CharField(max_length=100, primary_key=True)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    code = models.CharField(max_length=40)
    facts = models.TextField(default="{}")
    raised = models.BooleanField()
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "alerts_alert"

    def __str__(self) -> str:
        return self.key


class Message(models.Model):
    """One raising or clearing, to be sent to each URL once; deleted a month later."""

    key = models.CharField(max_length=100)
    severity = models.CharField(max_length=10)
    code = models.CharField(max_length=40)
    facts = models.TextField()
    raised = models.BooleanField()
    at = models.DateTimeField()
    # HMACs of the URLs that have taken it, by comma.
    taken_by = models.TextField(default="", blank=True)
    sent_at = models.DateTimeField(null=True)
    tries = models.IntegerField(default=0)
    # Nobody else sends it before this: it is being sent, or waits after a failure.
    due_at = models.DateTimeField()

    class Meta:
        db_table = "alerts_message"
        indexes: ClassVar = [models.Index(fields=["sent_at", "due_at"], name="alerts_message_due")]

    def __str__(self) -> str:
        return f"{self.key} {'raised' if self.raised else 'cleared'}"
