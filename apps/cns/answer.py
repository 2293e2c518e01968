"""The relay's answer, read as what it is: bytes from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from apps.cns.errors import CnsRefused, CnsUnavailable
from apps.wire.client import Response

Status = Literal["accepted", "dead", "retry", "failed"]

_STATUSES = frozenset(["accepted", "dead", "retry", "failed"])
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_LONGEST_RETRY_S = 3600.0
_DEFAULT_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one push.

    `dead`: its token is of no more use, since `dead_since` if the push service said so. `retry`:
    again after `retry_after_s` seconds. `failed`: trying again is useless until somebody has put
    something right. `reason` is the push service's word or the relay's.
    """

    id: str
    status: Status
    reason: str = ""
    dead_since: datetime | None = None
    retry_after_s: float = 0.0


def read_answer(response: Response, ids: Sequence[str], version: int) -> list[Result]:
    """The results in the order of `ids`.

    Raises:
        CnsUnavailable: the relay is overloaded or broken, or its answer is not complete.
        CnsRefused: the relay refused the call as a whole.
    """
    if response.status != 200:
        _raise_for(response)
    content = _object(response.body)
    results = content.get("results")
    if content.get("version") != version or not isinstance(results, list):
        raise CnsUnavailable("answer_malformed")
    found = {result.id: result for result in map(_result, results)}
    try:
        return [found[each] for each in ids]
    except KeyError:
        raise CnsUnavailable("answer_incomplete") from None


def problem_code(response: Response) -> str:
    """The code of a relay's problem document; empty for what is none."""
    code = _object(response.body).get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _raise_for(response: Response) -> None:
    code = problem_code(response) or f"http_{response.status}"
    # The HTTP library sends a request again when a kept-alive connection dies under it. If the
    # first copy had arrived, the second is a replay, and what became of the pushes is unknown.
    may_be_repeated = response.status == 429 or code == "nonce_replayed"
    if 400 <= response.status < 500 and not may_be_repeated:
        raise CnsRefused(code)
    raise CnsUnavailable(code, _seconds(response.headers.get("retry-after")))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _result(given: Any) -> Result:
    if (
        not isinstance(given, dict)
        or not isinstance(given.get("id"), str)
        or not isinstance(given.get("status"), str)
        or given["status"] not in _STATUSES
    ):
        raise CnsUnavailable("answer_malformed")
    reason = given.get("reason", "")
    return Result(
        id=given["id"],
        status=cast(Status, given["status"]),
        reason=reason if isinstance(reason, str) and _CODE.fullmatch(reason) else "",
        dead_since=_moment(given.get("dead_since")),
        retry_after_s=_seconds(given.get("retry_after_s")) if given["status"] == "retry" else 0.0,
    )


def _moment(milliseconds: Any) -> datetime | None:
    # Up to the year 9999, the last that a datetime knows.
    if type(milliseconds) is not int or not 0 < milliseconds < 253_402_300_800_000:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _seconds(given: Any) -> float:
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,9}", given):
        given = int(given)
    # NaN compares false with everything and falls to the default.
    if isinstance(given, int | float) and not isinstance(given, bool) and given >= 0:
        return float(min(given, _LONGEST_RETRY_S))
    return _DEFAULT_RETRY_S
