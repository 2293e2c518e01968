"""Which SNS endpoint stands for which token: remembered, not stored.

The relay keeps nothing about users, so this is memory only, and bounded; what falls out is asked
for again, and SNS names the same endpoint.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

MOST = 50_000


class Endpoints:
    """The endpoints of the tokens that were used last; may be used from several threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._found: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, application_arn: str, token: str) -> str | None:
        """The endpoint's ARN, if it is known."""
        key = _key(application_arn, token)
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
        return found

    def keep(self, application_arn: str, token: str, endpoint_arn: str) -> None:
        """Remember an endpoint; the one that was used longest ago is forgotten for it."""
        with self._lock:
            self._found[_key(application_arn, token)] = endpoint_arn
            while len(self._found) > self._most:
                self._found.popitem(last=False)

    def forget(self, application_arn: str, token: str) -> None:
        """The endpoint is no more."""
        with self._lock:
            self._found.pop(_key(application_arn, token), None)


def _key(application_arn: str, token: str) -> bytes:
    return hashlib.sha256(f"{application_arn}\n{token}".encode()).digest()
