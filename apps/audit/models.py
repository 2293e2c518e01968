"""What was done, and by whom. Rows are added, and deleted once their time is over; never changed.

The model refuses anything else, and on PostgreSQL and SQLite triggers do (migration 0002), so that
neither a slip in our code nor a statement by hand goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NoReturn

from django.db import models


class AuditIsAppendOnly(Exception):
    """Somebody tried to change or delete an entry."""


class EntryQuerySet(models.QuerySet["AuditEntry"]):
    """Entries can be read and created; what would change many at once is refused."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AuditIsAppendOnly

    def delete(self) -> NoReturn:
        raise AuditIsAppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AuditIsAppendOnly

    def expire(self, ids: Iterable[int]) -> int:
        """Delete these entries, for `service.purge`, which knows that their time is over."""
        rows = self.filter(pk__in=list(ids))
        # Past the refusal above; a trigger still looks at each row's `keep_until`.
        return int(models.QuerySet.delete(rows)[0])


class AuditEntry(models.Model):
    """One change, action or download.

    `actor` is who did it as people know them: an administrator's user name, an API token's label,
    `command line (<account>)`. `action` is a short name like `device.block`. `target` says what it
    was done to, by id or label. `og_path` is the tree path of the organization group concerned at
    that time; empty for what concerns the whole deployment. `before` and `after` hold what
    changed, without secrets (service.py).
    """

    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=200, db_index=True)
    address = models.CharField(max_length=64, blank=True, default="")
    action = models.CharField(max_length=60, db_index=True)
    target = models.CharField(max_length=200, blank=True, default="")
    og_path = models.CharField(max_length=255, blank=True, default="", db_index=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    # As the retention setting was then: shortening it later doesn't shorten the past.
    keep_until = models.DateTimeField(db_index=True)

    objects = EntryQuerySet.as_manager()

    class Meta:
        db_table = "audit_entry"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the entry.

        Raises:
            AuditIsAppendOnly: it is in the log already.
        """
        if not self._state.adding:
            raise AuditIsAppendOnly
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Entries are not deleted by anybody.

        Raises:
            AuditIsAppendOnly: always.
        """
        raise AuditIsAppendOnly
