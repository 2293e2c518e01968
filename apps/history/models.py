"""What history keeps: codes, numbers and ids. Nothing here says who somebody is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Story(models.Model):
    """A device's newest entries, packed into one row (stories.py)."""

    device_id = models.UUIDField(primary_key=True)
    packed = models.BinaryField()
    # When its newest entry happened, in seconds since the epoch.
    newest_at = models.FloatField(db_index=True)

    class Meta:
        db_table = "history_story"

    def __str__(self) -> str:
        return str(self.device_id)


class LooseEntry(models.Model):
    """An entry that is not packed yet: processes only ever add these, and never wait for another.

    `text` is the entry as JSON, as it will be packed.
    """

    device_id = models.UUIDField(db_index=True)
    text = models.TextField()

    class Meta:
        db_table = "history_loose_entry"

    def __str__(self) -> str:
        return str(self.device_id)


class MinuteCount(models.Model):
    """How often something happened in a minute, in all processes together.

    `minute` counts from the epoch; 0 holds the sum of all minutes that were purged.
    """

    name = models.CharField(max_length=100)
    minute = models.IntegerField()
    n = models.BigIntegerField()

    class Meta:
        db_table = "history_minute_count"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "minute"], name="history_one_count_a_minute")
        ]
        indexes: ClassVar = [models.Index(fields=["minute"], name="history_count_by_minute")]

    def __str__(self) -> str:
        return f"{self.name} {self.minute}"
