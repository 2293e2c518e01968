"""Carries out a plan of faults on a stand, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis
import requests

from apps.lab.chaos.plan import Planned
from apps.lab.stand import waiting
from apps.lab.stand.postgres import NAME as POSTGRES
from apps.lab.stand.stand import Stand

FAIL_OVER_S = 30.0


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that was; Unix times. `trouble` says why it could not be carried out."""

    name: str
    began: float
    ended: float
    trouble: str = ""


class Faults:
    """Brings the planned faults about from `start` on; `happened` is complete after `join`."""

    def __init__(self, stand: Stand, planned: Sequence[Planned]) -> None:
        self._stand = stand
        self._planned = planned
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.happened: list[Happened] = []

    def start(self) -> None:
        """Time counts from now."""
        began = time.monotonic()
        for fault in self._planned:
            thread = threading.Thread(
                target=self._carry_out, args=(fault, began + fault.at), name=fault.name, daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Wait until all faults are over."""
        for thread in self._threads:
            thread.join()
        self.happened.sort(key=lambda fault: fault.began)

    def stop(self) -> None:
        """Let nothing more happen; what is under way is undone first."""
        self._stop.set()
        self.join()

    def _carry_out(self, fault: Planned, at: float) -> None:
        if self._stop.wait(max(0.0, at - time.monotonic())):
            return
        began, trouble = time.time(), ""
        try:
            self._act(fault)
        except (waiting.TookTooLong, redis.RedisError, requests.RequestException) as error:
            trouble = f"{type(error).__name__}: {error}"
        self.happened.append(Happened(fault.name, began, time.time(), trouble))

    def _act(self, fault: Planned) -> None:
        actions: dict[str, Callable[[float], None]] = {
            "postgres restart": self._restart_postgres,
            "redis restart": self._restart_redis,
            "redis fail-over": self._fail_over,
            "exchange network": self._cut_exchange,
            "apns 503": self._refuse_pushes,
        }
        kind, _, name = fault.name.partition(" ")
        if kind == "kill":
            self._stand.kill(name)
        else:
            actions[fault.name](fault.seconds)

    def _restart_postgres(self, _: float) -> None:
        self._stand.kill(POSTGRES)
        if self._stand.postgres is not None:
            waiting.until("PostgreSQL", self._stand.postgres.answers, FAIL_OVER_S)

    def _restart_redis(self, _: float) -> None:
        if self._stand.redis is not None:
            self._stand.kill(self._stand.redis.master())

    def _fail_over(self, _: float) -> None:
        """The master stays away until Sentinel has made the replica master, then comes back."""
        if self._stand.redis is None:
            return
        master = self._stand.redis.master()
        self._stand.supervisor.stop(master)
        try:
            self._stand.redis.await_other_master(master, FAIL_OVER_S)
        finally:
            self._stand.supervisor.start_again(master)

    def _cut_exchange(self, seconds: float) -> None:
        line = self._stand.exchange_line
        if line is not None:
            line.cut()
            try:
                self._stop.wait(seconds)
            finally:
                line.restore()

    def _refuse_pushes(self, seconds: float) -> None:
        fault = {"action": "refuse", "reason": "ServiceUnavailable", "seconds": seconds}
        with requests.Session() as http:
            http.trust_env = False
            answer = http.post(f"{self._stand.apns_control}/faults", json=fault, timeout=10)
            answer.raise_for_status()
        self._stop.wait(seconds)
