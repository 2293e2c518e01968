"""The Celery app. Its messages are pokes: losing one delays, repeating one does nothing twice."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging
from django.conf import settings
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ens_project.settings")

app = Celery("ens")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# For every thread, not only this one: the webhook pokes from a thread of its own.
app.set_default()


@setup_logging.connect
def _log(**_signal: Any) -> None:
    """Levels and formats are those of `ens.env`; Celery's own would take their place."""
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)


@beat_init.connect
def _watch(**_signal: Any) -> None:
    """Beat raises the alarm when all workers are gone."""
    from apps.operations import alerts

    alerts.start()
