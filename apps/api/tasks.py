"""Housekeeping of the device API."""

from __future__ import annotations

from celery import shared_task

from apps.api import limits


@shared_task(name="api.forget_attempts")
def forget_attempts() -> None:
    """Forget attempts of windows that are long over (limits.forget)."""
    limits.forget()
