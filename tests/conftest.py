"""What all tests share."""

from __future__ import annotations

# Pokes of the code under test go to the Celery app's broker, a folder of this run's own.
import ens_project.celery  # noqa: F401
