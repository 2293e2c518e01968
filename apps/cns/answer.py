"""The relay's answer, read as what it is: bytes from outside."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from apps.cns.errors import CnsRefused, CnsUnavailable
from apps.wire.client import Response

log = logging.getLogger(__name__)

Status = Literal["accepted", "dead", "retry", "failed"]
# The media type of an answer by lines.
LINES = "application/x-ndjson"

_STATUSES = frozenset(["accepted", "dead", "retry", "failed"])
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_LONGEST_LINE = 2048
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


class Answer:
    """The relay's answer to one call, read while it comes.

    A relay that answers line by line is heard at once; of one that breaks off, what has no line
    yet is to be tried again. A relay of an older release answers with one JSON document.

    Args:
        ids: of the pushes in the call.
        version: of the protocol.
        on_result: hears of each push once, as soon as its result is known.
    """

    def __init__(
        self, ids: Sequence[str], version: int, on_result: Callable[[Result], None]
    ) -> None:
        self._ids = ids
        self._version = version
        self._on_result = on_result
        self._missing = set(ids)
        self._found: dict[str, Result] = {}
        self._unfinished = b""
        self._begun = self._ended = False

    @property
    def any_known(self) -> bool:
        """Whether the result of at least one push is known."""
        return bool(self._found)

    def take(self, status: int, headers: Mapping[str, str]) -> Callable[[bytes], None] | None:
        """Who takes the body of an answer with this head; None: it is to be kept whole."""
        lines = headers.get("content-type", "").partition(";")[0].strip().lower() == LINES
        return self._read_lines if status == 200 and lines else None

    def read_document(self, response: Response) -> None:
        """Read an answer that was kept whole.

        Raises:
            CnsUnavailable: the relay is overloaded or broken, or its answer is malformed.
            CnsRefused: the relay refused the call as a whole.
        """
        if response.status != 200:
            _raise_for(response)
        content = _object(response.body)
        results = content.get("results")
        self._check_version(content)
        if not isinstance(results, list):
            raise CnsUnavailable("answer_malformed")
        for each in map(_result, results):
            self._settle(each)

    def results(self, code: str) -> list[Result]:
        """What came of each push, in the order of the call; `code` says why some have no answer.

        Raises:
            CnsUnavailable: none has.
        """
        if self._ids and len(self._missing) == len(self._ids):
            raise CnsUnavailable(code)
        if self._missing:
            log.warning(
                "the relay left %d of %d open: %s", len(self._missing), len(self._ids), code
            )
            again = CnsUnavailable(code).retry_after_s
            for each in sorted(self._missing):
                self._settle(Result(each, "retry", code, retry_after_s=again))
        return [self._found[each] for each in self._ids]

    def _read_lines(self, part: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + part).split(b"\n")
        for line in lines:
            self._read_line(line)
        if len(self._unfinished) > _LONGEST_LINE:
            raise CnsUnavailable("answer_malformed")

    def _read_line(self, line: bytes) -> None:
        content = _object(line)
        if self._ended or len(line) > _LONGEST_LINE:
            raise CnsUnavailable("answer_malformed")
        if not self._begun:
            self._begun = True
            self._check_version(content)
        elif content.get("end") is True:
            self._ended = True
        else:
            self._settle(_result(content))

    def _check_version(self, content: dict[str, Any]) -> None:
        version = content.get("version")
        if type(version) is not int:
            raise CnsUnavailable("answer_malformed")
        if version != self._version:
            log.error("the relay answers in protocol version %d, not %d", version, self._version)
            raise CnsRefused("version_unsupported")

    def _settle(self, result: Result) -> None:
        if result.id not in self._missing:
            # Not ours, or answered before: whatever follows is not to be believed either.
            raise CnsUnavailable("answer_malformed")
        self._missing.discard(result.id)
        self._found[result.id] = result
        self._on_result(result)


def problem_code(response: Response) -> str:
    """The code of a relay's problem document; empty for what is none."""
    code = _object(response.body).get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _raise_for(response: Response) -> None:
    content = _object(response.body)
    code = problem_code(response) or f"http_{response.status}"
    # The HTTP library sends a request again when a kept-alive connection dies under it. If the
    # first copy had arrived, the second is a replay, and what became of the pushes is unknown.
    may_be_repeated = response.status == 429 or code == "nonce_replayed"
    if code == "version_unsupported":
        spoken = content.get("versions")
        known = [each for each in spoken if type(each) is int] if isinstance(spoken, list) else []
        log.error("the relay speaks protocol versions %s only: upgrade the older side", known[:10])
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
