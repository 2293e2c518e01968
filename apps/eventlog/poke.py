"""Wakes workers. A poke only says «look at the log»; losing one delays by a beat's second.

Publishing happens on a thread of its own and at most so often a second, so that neither a slow nor
a dead broker ever keeps a webhook waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from celery import current_app

log = logging.getLogger(__name__)

_EXPIRES_S: Final = 5


class Poker:
    """Pokes one Celery task on one queue, at most once per `interval_s`."""

    def __init__(self, task: str, queue: str, interval_s: float = 0.5):
        self._task, self._queue, self._interval_s = task, queue, interval_s
        self._wanted = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Ask for a poke; returns at once and never fails."""
        self._wanted.set()
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._publish, name=f"poke-{self._queue}", daemon=True
                    )
                    self._thread.start()

    def _publish(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                current_app.send_task(
                    self._task,
                    queue=self._queue,
                    expires=_EXPIRES_S,
                    retry=False,
                    ignore_result=True,
                )
            except Exception as error:  # noqa: BLE001 - kombu raises each transport's own errors
                log.warning("can't poke %s: %s", self._task, type(error).__name__)
            time.sleep(self._interval_s)
