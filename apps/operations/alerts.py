"""The alerts that ENS raises by itself, from what all processes counted together.

They are looked at in processes other than the workers (web and beat), for a worker that is gone
can't say so; and what they raise is sent from there, for nobody else may be left to do it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from apps import clock
from apps.alerts import sending
from apps.alerts.models import Alert, Severity
from apps.alerts.service import clear_alert, raise_alert
from apps.eventlog.factory import get_log
from apps.history import counters, names
from apps.operations import database_clock, lease, push_apps
from apps.operations.rounds import rounds
from apps.subscriptions.entries import JOIN, MAIL
from apps.subscriptions.models import WakeUp
from apps.vault.redact import where

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 15.0
# Counters are per minute: «within two minutes» is between two and three.
_JUST_NOW: Final = timedelta(minutes=2)
RELAY_GONE_AFTER: Final = timedelta(minutes=5)
IN_NUMBERS: Final = timedelta(minutes=10)
CREDENTIALS_REFUSED_AT: Final = 20
PROOF_FAILURES_AT: Final = 5
GATEWAY_REFUSED_AT: Final = 20
UNANSWERED_FOR: Final = timedelta(hours=6)
# Entries that wait: fewer are no alert, however they grow.
LOG_DEEP_AT: Final = 500
GROWING_FOR_S: Final = 120.0
CLOCK_DIFFERS: Final = "clock_differs"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look found: raise, clear, or (None) leave it as it is; and the numbers behind it."""

    raised: bool | None
    facts: dict[str, int]


class Watch:
    """Looks at everything now and then. One per process; several agree on the same numbers."""

    def __init__(self) -> None:
        self._depths: dict[str, deque[tuple[float, int]]] = {MAIL: deque(), JOIN: deque()}
        self._began = self._beat_seen = time.monotonic()

    def look(self) -> None:
        """Raise and clear what is to be; send what is due."""
        rules: list[tuple[str, Severity, Callable[[], Verdict]]] = [
            ("relay_refuses_us", Severity.CRITICAL, relay_refuses_us),
            ("relay_unavailable", Severity.CRITICAL, relay_unavailable),
            ("worker_gone", Severity.CRITICAL, self._worker_gone),
            ("beat_gone", Severity.CRITICAL, self._beat_gone),
            (CLOCK_DIFFERS, Severity.WARNING, clock_differs),
            ("mail_log_growing", Severity.CRITICAL, lambda: self._growing(MAIL)),
            ("join_log_growing", Severity.WARNING, lambda: self._growing(JOIN)),
            ("credentials_refused", Severity.WARNING, credentials_refused),
            ("proof_failures", Severity.CRITICAL, proof_failures),
            ("gateway_refuses", Severity.WARNING, gateway_refuses),
            ("phones_do_not_answer", Severity.WARNING, phones_do_not_answer),
        ]
        raised = set(Alert.objects.filter(raised=True).values_list("key", flat=True))
        for code, severity, rule in rules:
            try:
                verdict = rule()
                # Of a clock each server speaks for itself.
                key = f"{code}:{_host()}" if code == CLOCK_DIFFERS else code
                if verdict.raised and key not in raised:
                    raise_alert(key, severity, code, verdict.facts)
                elif verdict.raised is False and key in raised:
                    clear_alert(key)
            except Exception as error:  # noqa: BLE001 - one rule must not stop the others
                log.error("alert %s can't be judged: %s", code, where(error))
        self._look_at_push_apps()
        sending.send_due()

    def _look_at_push_apps(self) -> None:
        try:
            push_apps.look()
        except Exception as error:  # noqa: BLE001 - one rule must not stop the others
            log.error("the alerts of push apps can't be judged: %s", where(error))

    def _worker_gone(self) -> Verdict:
        """No drain has begun in any process. Not before this one has waited as long itself."""
        runs = counters.recent(names.DRAIN_RUNS, _JUST_NOW)
        patient = time.monotonic() - self._began > _JUST_NOW.total_seconds()
        return Verdict(False if runs else (True if patient else None), {})

    def _beat_gone(self) -> Verdict:
        """Nobody holds beat's lease, now and whenever this process has looked for two minutes.

        As long as rounds are gone, one of the last release is at work, which knows no lease.
        """
        holder = lease.standing(lease.BEAT)
        if holder is not None and holder.seconds_left > 0:
            self._beat_seen = time.monotonic()
            return Verdict(False, {})
        missed = time.monotonic() - self._beat_seen > _JUST_NOW.total_seconds()
        return Verdict(True if missed and not rounds()[1] else None, {})

    def _growing(self, kind: str) -> Verdict:
        """Deep, and deeper than it was some minutes ago; over once it is half as deep as that."""
        depth, now = get_log().depth(kind), time.monotonic()
        seen = self._depths[kind]
        seen.append((now, depth))
        while len(seen) > 1 and seen[1][0] <= now - GROWING_FOR_S:
            seen.popleft()
        before_at, before = seen[0]
        growing = now - before_at >= GROWING_FOR_S and depth > before
        if depth >= LOG_DEEP_AT and growing:
            return Verdict(True, {"waiting": depth, "before": before})
        return Verdict(False if depth < LOG_DEEP_AT / 2 else None, {})


def relay_refuses_us() -> Verdict:
    """The relay takes no call of ours: somebody must put it right."""
    refused = counters.recent(f"{names.RELAY_CALLS}.refused", _JUST_NOW)
    answered = counters.recent(f"{names.RELAY_CALLS}.answered", _JUST_NOW)
    if refused and not answered:
        return Verdict(True, {"calls": refused})
    return Verdict(False if answered and not refused else None, {})


def relay_unavailable() -> Verdict:
    """No call has got through for minutes although there were some."""
    since = timezone.now() - RELAY_GONE_AFTER - timedelta(minutes=1)
    failed = counters.minutes(f"{names.RELAY_CALLS}.unavailable", since)
    answered = counters.minutes(f"{names.RELAY_CALLS}.answered", since)
    last_answer = answered[-1][0] if answered else since
    failed_since = [at for at, _ in failed if at >= last_answer]
    if answered and (not failed or answered[-1][0] > failed[-1][0]):
        return Verdict(False, {})
    if failed_since and failed_since[-1] - failed_since[0] >= RELAY_GONE_AFTER - timedelta(
        minutes=1
    ):
        return Verdict(True, {"calls": sum(n for _, n in failed)})
    return Verdict(None, {})


def clock_differs() -> Verdict:
    """This server's clock is not the database's: times compared on two servers go wrong."""
    if connection.vendor == "sqlite":
        return Verdict(False, {})
    apart = abs(database_clock.apart())
    if apart >= database_clock.CLOCKS_S:
        return Verdict(True, {"seconds": round(apart)})
    return Verdict(False if apart < database_clock.CLOCKS_S / 2 else None, {})


def _host() -> str:
    return socket.gethostname()[:80]


def credentials_refused() -> Verdict:
    """Many passwords don't work any more: a directory that is away, or somebody who guesses."""
    return _in_numbers(names.CREDENTIALS_REFUSED, CREDENTIALS_REFUSED_AT)


def proof_failures() -> Verdict:
    """Good credentials, but for others' mailboxes, again and again: an intruder."""
    return _in_numbers(names.PROOF_FAILURES, PROOF_FAILURES_AT)


def gateway_refuses() -> Verdict:
    """Many phones at once: rather a gateway that knows them by something else than we tell it."""
    return _in_numbers(names.GATEWAY_REFUSED, GATEWAY_REFUSED_AT)


def phones_do_not_answer() -> Verdict:
    """Phones were woken in vain, even by the push that can be seen: their mail is not announced."""
    since = clock.now() - UNANSWERED_FOR
    phones = WakeUp.objects.filter(visible_at__lt=since).count()
    return Verdict(phones > 0, {"phones": phones})


def _in_numbers(name: str, limit: int) -> Verdict:
    times = counters.recent(name, IN_NUMBERS)
    if times >= limit:
        return Verdict(True, {"times": times, "minutes": int(IN_NUMBERS.total_seconds() / 60)})
    return Verdict(False if times < limit / 2 else None, {})


def start() -> None:
    """Watch from now on, on a thread of this process."""
    threading.Thread(target=_run, name="ens-watch", daemon=True).start()


def _run() -> None:
    watch = Watch()
    while True:
        try:
            watch.look()
        except Exception as error:  # noqa: BLE001 - the database may be away; look again later
            log.warning("the alerts can't be judged: %s", where(error))
        finally:
            connection.close()
        time.sleep(LOOK_EVERY_S)
