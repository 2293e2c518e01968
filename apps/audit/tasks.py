"""The audit log's housekeeping as a Celery task."""

from __future__ import annotations

from celery import shared_task

from apps.audit import service


@shared_task(name="audit.purge")
def purge() -> int:
    """Delete what is older than `ENS_AUDIT_DAYS` (service.purge); returns how many."""
    return service.purge()
