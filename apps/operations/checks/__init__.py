"""The checks of this deployment: `python manage.py diagnose`, and the console's Diagnostics."""

from __future__ import annotations

from importlib import import_module


def register() -> None:
    """Register them all; called once the apps are ready."""
    for name in ("deployment", "exchange", "autodiscover", "webhook", "relay"):
        import_module(f"apps.operations.checks.{name}")
