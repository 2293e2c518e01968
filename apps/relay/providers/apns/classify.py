"""What an answer of APNs means: accepted, dead token, try again, or ours to fix.

https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from apps.relay.providers import ACCEPTED, Outcome
from apps.wire.client import Response
from apps.wire.errors import TlsFailed, WireError

# Apple: "Don't retry" these; all of them are about the device token.
_DEAD_TOKEN = frozenset(
    [
        "BadDeviceToken",
        "DeviceTokenNotForTopic",
        "ExpiredToken",
        "MissingDeviceToken",
        "Unregistered",
    ]
)
# Ours to fix, as every 403 (a key, a certificate, or the environment it is for).
_SET_UP = frozenset(["BadTopic", "MissingTopic", "TopicDisallowed"])
# 400, and yet nothing is wrong with the request: it came too slowly.
_TRY_AGAIN = frozenset(["IdleTimeout"])
_RETRY_AFTER_S = {
    "TooManyProviderTokenUpdates": 60.0,
    "TooManyRequests": 10.0,
}
_DEFAULT_RETRY_AFTER_S = 2.0
_LONGEST_RETRY_AFTER_S = 3600.0
_REASON = re.compile(r"[A-Za-z]{1,64}")


def classify(response: Response) -> Outcome:
    """The outcome of a notification that APNs has answered."""
    if response.status == 200:
        return ACCEPTED
    content = _content(response.body)
    reason = content.get("reason")
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        reason = f"http_{response.status}"
    if response.status == 410 or (response.status == 400 and reason in _DEAD_TOKEN):
        return Outcome("dead", reason, dead_since_ms=_timestamp(content))
    if 400 <= response.status < 500 and response.status != 429 and reason not in _TRY_AGAIN:
        ours = response.status == 403 or reason in _SET_UP
        return Outcome("failed", reason, ours_to_fix=ours)
    # 429, 5xx, and whatever else stands between us and Apple.
    return Outcome("retry", reason, retry_after_s=_retry_after(response, reason))


def classify_error(error: WireError) -> Outcome:
    """The outcome of a notification that got no answer: it may have arrived or not.

    No TLS is ours to fix: a revoked or expired certificate, or somebody between us and Apple.
    """
    return Outcome(
        "retry",
        error.code,
        retry_after_s=_DEFAULT_RETRY_AFTER_S,
        ours_to_fix=isinstance(error, TlsFailed),
    )


def _content(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _timestamp(content: dict[str, Any]) -> int | None:
    found = content.get("timestamp")
    return found if isinstance(found, int) and 0 < found < 2**53 else None


def _retry_after(response: Response, reason: str) -> float:
    given = response.headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", given):
        return min(float(given), _LONGEST_RETRY_AFTER_S)
    try:
        wait = parsedate_to_datetime(given).timestamp() - time.time()
        return min(max(wait, 1.0), _LONGEST_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        pass  # neither seconds nor a date (RFC 9110, section 10.2.3)
    return _RETRY_AFTER_S.get(reason, _DEFAULT_RETRY_AFTER_S)
