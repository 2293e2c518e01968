"""Sending as a Celery task. A beat repeats it, so that what failed is tried again."""

from __future__ import annotations

from celery import shared_task

from apps.alerts import sending


@shared_task(name="alerts.send")
def send() -> int:
    """Send what is due (sending.send_due)."""
    return sending.send_due()
