"""Limits on attempts. A roll-out is not an attack: 20,000 phones may share address and token, so
joins are counted per user and address, and of the rest only failures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.http import HttpRequest

from apps.api.models import AttemptWindow
from apps.api.problems import Problem
from apps.vault.lookup import lookup_hmac


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
        window = int(time.time()) // self.window_s
        used = (
            AttemptWindow.objects.filter(key_hmac=self._hmac(key), window=window)
            .values_list("attempts", flat=True)
            .first()
        )
        if used is not None and used >= self.attempts:
            rest = (window + 1) * self.window_s - int(time.time())
            raise Problem("too_many_attempts", retry_after_s=max(1, rest))

    def count(self, key: str) -> None:
        """Count one attempt."""
        window = int(time.time()) // self.window_s
        rows = AttemptWindow.objects.filter(key_hmac=self._hmac(key), window=window)
        if rows.update(attempts=F("attempts") + 1):
            return
        # A new window: what is older than a day goes.
        AttemptWindow.objects.filter(
            key_hmac=self._hmac(key), window__lt=window - 86400 // self.window_s
        ).delete()
        try:
            with transaction.atomic():
                AttemptWindow.objects.create(key_hmac=self._hmac(key), window=window, attempts=1)
        except IntegrityError:
            rows.update(attempts=F("attempts") + 1)

    def _hmac(self, key: str) -> str:
        return lookup_hmac("limit", f"{self.name}:{key}")


FAILURES: Final = Limit("failures", attempts=200, window_s=600)
JOINS: Final = Limit("joins", attempts=20, window_s=3600)


def client_address(request: HttpRequest) -> str:
    """The caller's address; X-Forwarded-For counts only where listed proxies wrote it."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    while forwarded and _is_proxy(peer):
        candidate = forwarded.pop()
        if not candidate:
            break
        peer = candidate
    return peer


def _is_proxy(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in settings.ENS.trusted_proxies)
