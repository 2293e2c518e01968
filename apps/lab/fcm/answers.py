"""What FCM and the token endpoint say back, in Google's forms.

https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
https://cloud.google.com/apis/design/errors#http_mapping
https://www.rfc-editor.org/rfc/rfc6749#section-5.2
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from apps.lab.apns.faults import Fault

# FCM's own codes, each with its status and the canonical code of all of Google's APIs.
FCM_ERRORS = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "UNREGISTERED": (404, "NOT_FOUND"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
    "INTERNAL": (500, "INTERNAL"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
}
# What Google's front end refuses before FCM has seen it.
FRONT_ERRORS = {
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED"),
    "PERMISSION_DENIED": (403, "PERMISSION_DENIED"),
    "NOT_FOUND": (404, "NOT_FOUND"),
}
TOKEN_ERRORS = {
    "invalid_grant": 400,
    "invalid_request": 400,
    "invalid_scope": 400,
    "unsupported_grant_type": 400,
    "internal_failure": 500,
}
_TYPES = "type.googleapis.com/"


@dataclass(slots=True)
class FcmFault(Fault):
    """A fault of the lab's FCM: `place` says whether it meets messages or requests for tokens.

    Reasons: the error codes of this module. `body` replaces the whole answer of a refusal.
    """

    reasons: ClassVar[Collection[str]] = [*FCM_ERRORS, *FRONT_ERRORS, *TOKEN_ERRORS]

    place: Literal["messages", "token"] = "messages"
    body: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `reason` is empty for success."""

    status: int
    content: dict[str, Any] = field(repr=False)
    reason: str = ""
    retry_after_s: int | None = None
    raw: str = field(default="", repr=False)

    def headers(self) -> list[tuple[str, str]]:
        """The HTTP/2 header block."""
        found = [(":status", str(self.status)), ("content-type", "application/json; charset=UTF-8")]
        if self.retry_after_s is not None:
            found.append(("retry-after", str(self.retry_after_s)))
        return found

    def body(self) -> bytes:
        """The JSON body, or what a fault put in its place."""
        return (self.raw or json.dumps(self.content)).encode()


class Refused(Exception):
    """A check failed. `code` is one of this module's; `field` names the member at fault."""

    def __init__(self, code: str, message: str = "", field: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message or code.lower().replace("_", " ")
        self.field = field

    def answer(self, retry_after_s: int | None = None, raw: str = "") -> Answer:
        """The answer in the form Google gives it."""
        if self.code in TOKEN_ERRORS:
            content: dict[str, Any] = {"error": self.code, "error_description": self.message}
            return Answer(TOKEN_ERRORS[self.code], content, self.code, retry_after_s, raw)
        status, canonical = (FCM_ERRORS | FRONT_ERRORS)[self.code]
        error = {"code": status, "message": self.message, "status": canonical}
        if details := self._details():
            error["details"] = details
        return Answer(status, {"error": error}, self.code, retry_after_s, raw)

    def _details(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self.code in FCM_ERRORS:
            kind = f"{_TYPES}google.firebase.fcm.v1.FcmError"
            found.append({"@type": kind, "errorCode": self.code})
        if self.field:
            violation = {"field": self.field, "description": self.message}
            kind = f"{_TYPES}google.rpc.BadRequest"
            found.append({"@type": kind, "fieldViolations": [violation]})
        return found
