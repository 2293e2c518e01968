"""Housekeeping of sign-in as a Celery task."""

from __future__ import annotations

from celery import shared_task

from apps.administrators import lockout, second_factor
from apps.administrators.directory import people
from apps.administrators.sessions import SessionStore


@shared_task(name="administrators.housekeeping")
def housekeeping() -> None:
    """Delete sessions that have ended, and failures that no longer count."""
    SessionStore.clear_expired()
    lockout.forget()
    second_factor.forget()


@shared_task(name="administrators.directory")
def directory() -> None:
    """Take from administrators what the directory no longer gives them."""
    people.refresh()
