"""Wiring only: settings, urls, wsgi and the Celery app of the Email Notification Service."""

__version__ = "0.2.0.dev0"
