"""What an answer of FCM means: accepted, dead token, try again, or ours to fix.

https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
https://firebase.google.com/docs/cloud-messaging/scale-fcm
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apps.relay.providers import Outcome
from apps.wire.client import Response
from apps.wire.errors import WireError

_FCM_ERROR = "google.firebase.fcm.v1.FcmError"
_BAD_REQUEST = "google.rpc.BadRequest"
_QUOTA_FAILURE = "google.rpc.QuotaFailure"
# A token belongs to the senders its app named when it registered; to another one it is of no use
# until the app registers anew, and then it is another token.
_DEAD = frozenset(["UNREGISTERED", "SENDER_ID_MISMATCH"])
_RETRY_AFTER_S = 2.0
_LONGEST_RETRY_AFTER_S = 3600.0
_REASON = re.compile(r"[A-Z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, and what it means for those who come next.

    `token_refused`: the access token was; another one may do. `quota_exceeded`: the project has
    sent too much; whoever sends next makes it worse. `told_s`: how long FCM wants us to wait.
    """

    outcome: Outcome
    token_refused: bool = False
    quota_exceeded: bool = False
    told_s: float | None = None


def classify(response: Response) -> Verdict:
    """What FCM's answer to one message means."""
    if response.status == 200:
        return Verdict(Outcome("accepted"))
    error = _error(response.body)
    fcm_code = next((d.get("errorCode") for d in _details(error, _FCM_ERROR)), None)
    reason = fcm_code or error.get("status")
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        reason = f"http_{response.status}"
    if fcm_code in _DEAD or (response.status == 400 and _is_about_token(error)):
        return Verdict(Outcome("dead", reason))
    if response.status == 429:
        told = _retry_after(response)
        outcome = Outcome("retry", reason, retry_after_s=told)
        return Verdict(outcome, quota_exceeded=not _is_about_one_device(error), told_s=told)
    if response.status < 500 and response.status != 408:
        refused = response.status == 401 and fcm_code is None
        # A malformed message is this one's fault; a refused project or account that of the set-up.
        ours = response.status != 400
        return Verdict(Outcome("failed", reason, ours_to_fix=ours), token_refused=refused)
    wait = _retry_after(response)
    return Verdict(Outcome("retry", reason, retry_after_s=_RETRY_AFTER_S if wait is None else wait))


def classify_error(error: WireError) -> Outcome:
    """The outcome of a message that got no answer: it may have arrived or not."""
    return Outcome("retry", error.code, retry_after_s=_RETRY_AFTER_S)


def _is_about_token(error: dict[str, Any]) -> bool:
    """Whether an argument was invalid because of the registration token and nothing else."""
    fields = {
        violation.get("field")
        for detail in _details(error, _BAD_REQUEST)
        for violation in _dicts(detail.get("fieldViolations"))
    }
    if fields:
        return fields == {"message.token"}
    # Then Google says it in words only.
    about = any(d.get("errorCode") == "INVALID_ARGUMENT" for d in _details(error, _FCM_ERROR))
    return about and "registration token" in str(error.get("message", ""))


def _is_about_one_device(error: dict[str, Any]) -> bool:
    """Whether only this phone has had too many messages: no reason to make others wait."""
    said = [str(error.get("message", ""))]
    for detail in _details(error, _QUOTA_FAILURE):
        for violation in _dicts(detail.get("violations")):
            said += [str(violation.get("subject", "")), str(violation.get("description", ""))]
    return any("device" in text.lower() for text in said)


def _error(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _details(error: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    for detail in _dicts(error.get("details")):
        if str(detail.get("@type", "")).endswith(f"/{kind}"):
            yield detail


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict):
            yield each


def _retry_after(response: Response) -> float | None:
    given = response.headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}", given):
        return min(float(given), _LONGEST_RETRY_AFTER_S)
    return None
