"""Limits on attempts. A roll-out is not an attack: 20,000 phones may share address and token, so
joins are counted per user and address, and of the rest only failures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import F
from django.http import HttpRequest

from apps import client_address as clients
from apps.api.models import AttemptWindow
from apps.api.problems import Problem
from apps.vault.lookup import lookup_hmac

_KEPT_S: Final = 86400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `attempts` in each window of `window_s` seconds."""

    name: str
    attempts: int
    window_s: int

    def check(self, key: str) -> None:
        """Refuse when the limit has been reached.

        Raises:
            Problem: `too_many_attempts`, with the rest of the window as Retry-After.
        """
        window = self._window()
        used = (
            AttemptWindow.objects.filter(key_hmac=self._hmac(key), window=window)
            .values_list("attempts", flat=True)
            .first()
        )
        if used is not None and used >= self.attempts:
            rest = window + self.window_s - int(time.time())
            raise Problem("too_many_attempts", retry_after_s=max(1, rest))

    def count(self, key: str) -> None:
        """Count one attempt."""
        window = self._window()
        rows = AttemptWindow.objects.filter(key_hmac=self._hmac(key), window=window)
        if rows.update(attempts=F("attempts") + 1):
            return
        try:
            with transaction.atomic():
                AttemptWindow.objects.create(key_hmac=self._hmac(key), window=window, attempts=1)
        except IntegrityError:
            rows.update(attempts=F("attempts") + 1)

    def _window(self) -> int:
        now = int(time.time())
        return now - now % self.window_s

    def _hmac(self, key: str) -> str:
        return lookup_hmac("limit", f"{self.name}:{key}")


FAILURES: Final = Limit("failures", attempts=200, window_s=600)
# An attempt costs an RSA decryption: this many are half a second of one core.
BAD_JWES: Final = Limit("bad-jwes", attempts=2000, window_s=600)
JOINS: Final = Limit("joins", attempts=20, window_s=3600)


def client_address(request: HttpRequest) -> str:
    """The caller's address; X-Forwarded-For counts only where listed proxies wrote it."""
    address = clients.client_address(request)
    if isinstance(address, IPv6Address):
        # One customer has a whole /64 and could take a new address for each attempt.
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def forget() -> None:
    """Delete the windows that are long over."""
    AttemptWindow.objects.filter(window__lt=int(time.time()) - _KEPT_S).delete()
