"""Housekeeping of the key pairs (the queue `housekeeping` is the default one)."""

from __future__ import annotations

from celery import shared_task

from apps.keypairs import service


@shared_task(name="keypairs.rotate")
def rotate() -> None:
    """Keep every OG's key pairs ahead of time and destroy the spent ones."""
    service.rotate()
