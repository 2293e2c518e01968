"""The Celery app. Its messages are pokes: losing one delays, repeating one does nothing twice."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")

app = Celery("ens")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# For every thread, not only this one: the webhook pokes from a thread of its own.
app.set_default()


@beat_init.connect
def _watch(**_signal: Any) -> None:
    """Beat raises the alarm when all workers are gone."""
    from apps.operations import alerts

    alerts.start()
