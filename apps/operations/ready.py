"""`GET ready`: whether what this process depends on works, for load balancers and monitoring.

Open to anybody, so it says no more than names and codes, and asks at most once in two seconds,
however often it is called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final

from celery import current_app
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

DEADLINE_S: Final = 2.0
_GOOD_FOR_S: Final = 2.0
# Nothing is broken yet; a load balancer need not know, a monitor should.
_ATTENTION: Final = "attention"


class Checks:
    """A few named checks, run side by side, each until the deadline."""

    def __init__(self, checks: Mapping[str, Callable[[], str | None]]) -> None:
        self._checks = checks
        self._pool = ThreadPoolExecutor(len(checks), thread_name_prefix="ens-ready")
        self._running: dict[str, Future[str | None]] = {}
        self._one_at_a_time = threading.Lock()
        self._found: dict[str, str] = {}
        self._found_at = float("-inf")

    def run(self) -> dict[str, str]:
        """Each check's code: `ok`, `attention`, `fault`, or `timeout` for one still at it."""
        with self._one_at_a_time:
            if time.monotonic() - self._found_at > _GOOD_FOR_S:
                self._found, self._found_at = self._ask(), time.monotonic()
            return self._found

    def _ask(self) -> dict[str, str]:
        for name, check in self._checks.items():
            # One that still hangs is not asked a second time: its thread is all there is.
            if name not in self._running or self._running[name].done():
                self._running[name] = self._pool.submit(check)
        wait(self._running.values(), timeout=DEADLINE_S)
        return {name: _code(future) for name, future in self._running.items()}


def _code(future: Future[str | None]) -> str:
    if not future.done():
        return "timeout"
    return "fault" if future.exception() is not None else future.result() or "ok"


def _database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _event_log() -> None:
    from apps.eventlog.factory import get_log

    try:
        get_log().seen(["ready"])
    finally:
        connection.close()


def _broker() -> None:
    with current_app.connection_for_write(connect_timeout=DEADLINE_S) as broker:
        broker.ensure_connection(max_retries=1, timeout=int(DEADLINE_S))


def _push_apps() -> str | None:
    """Credentials that expire or are refused need a person; the relay itself works on."""

    try:
        from apps.relay import attention  # its tables are not everywhere

        return _ATTENTION if attention.needed() else None
    finally:
        connection.close()


_all = Checks({"database": _database, "event_log": _event_log, "broker": _broker})
_of_relay = Checks({"database": _database, "push_apps": _push_apps})


def _answer(checks: Checks, request: HttpRequest) -> HttpResponse:
    found = checks.run()
    good = all(code in ("ok", _ATTENTION) for code in found.values())
    body = {"status": "ok" if good else "fault", "checks": found}
    answer = JsonResponse(body, status=200 if good else 503)
    answer["Cache-Control"] = "no-store"
    return answer


def checks() -> dict[str, str]:
    """What each check of `GET ready` says: `ok`, `fault` or `timeout`."""
    return _all.run()


ready = require_safe(partial(_answer, _all))
relay_ready = require_safe(partial(_answer, _of_relay))
