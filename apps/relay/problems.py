"""Refusals as RFC 9457 problem documents with a stable code."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import JsonResponse

# Who calls unsigned or wrongly signed learns why, in one word; nothing of what the relay holds.
STATUS_OF_CODE = {
    "body_malformed": 400,
    "version_unsupported": 400,
    "too_many_notifications": 400,
    "notification_id_malformed": 400,
    "notification_id_repeated": 400,
    "signature_missing": 401,
    "signature_malformed": 401,
    "signature_invalid": 401,
    "certificate_unknown": 401,
    "certificate_revoked": 401,
    "certificate_expired": 401,
    "audience_mismatch": 401,
    "request_mismatch": 401,
    "body_mismatch": 401,
    "clock_mismatch": 401,
    "nonce_replayed": 401,
    "method_not_allowed": 405,
    "body_too_large": 413,
    "content_type_refused": 415,
}


class Refused(Exception):
    """The whole call is refused and nothing is sent; `code` is one of STATUS_OF_CODE."""

    def __init__(self, code: str, detail: str = "", **members: Any) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        # Further members of the problem document, for programs.
        self.members = members


def problem(refused: Refused) -> JsonResponse:
    """The HTTP answer to a refused call."""
    status = HTTPStatus(STATUS_OF_CODE[refused.code])
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": refused.code,
    }
    if refused.detail:
        content["detail"] = refused.detail
    content |= refused.members
    response = JsonResponse(content, status=status, content_type="application/problem+json")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response["Allow"] = "POST"
    return response
