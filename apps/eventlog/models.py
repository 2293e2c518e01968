"""The tables of the table log. Times are seconds since the epoch, as everywhere in this room."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class LogEntry(models.Model):
    """An entry. It may be claimed once `due_at` has passed.

    `holder` names the worker that holds it until `due_at`; empty: nobody does, and a `due_at` in
    the future is a delay.
    """

    kind = models.CharField(max_length=20)
    partition = models.CharField(max_length=64)
    payload = models.BinaryField()
    appended_at = models.FloatField()
    due_at = models.FloatField()
    holder = models.CharField(max_length=100, default="", blank=True)
    attempts = models.IntegerField(default=0)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["kind", "due_at"], name="eventlog_entry_kind_due"),
            models.Index(fields=["kind", "partition", "due_at"], name="eventlog_entry_part_due"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Turn(models.Model):
    """One row, locked by whoever changes leases: claims of two workers never overlap."""

    id = models.SmallIntegerField(primary_key=True)

    def __str__(self) -> str:
        return str(self.pk)


class DeadLetter(models.Model):
    """What remains of an entry that was given up: no payload."""

    kind = models.CharField(max_length=20)
    partition = models.CharField(max_length=64, db_index=True)
    reason = models.CharField(max_length=100)
    attempts = models.IntegerField()
    appended_at = models.FloatField()
    buried_at = models.FloatField(db_index=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}"


class UnwantedPartition(models.Model):
    """A partition whose next append or sign of life is answered with False."""

    partition = models.CharField(max_length=64, primary_key=True)
    marked_at = models.FloatField(db_index=True)

    def __str__(self) -> str:
        return self.partition


class Sign(models.Model):
    """The last sign of life of a partition, and the newest mark that came with one."""

    partition = models.CharField(max_length=64, primary_key=True)
    seen_at = models.FloatField()
    mark = models.CharField(max_length=128, default="", db_default="", blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["seen_at", "partition"], name="eventlog_sign_seen"),
        ]

    def __str__(self) -> str:
        return self.partition


class SeenMark(models.Model):
    """A key that is remembered until `expires_at`."""

    key = models.CharField(max_length=128, primary_key=True)
    expires_at = models.FloatField(db_index=True)

    def __str__(self) -> str:
        return self.key
