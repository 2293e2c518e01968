"""RFC 9457 problem documents: every error of the device API has a stable `code`."""

from __future__ import annotations

import logging
from typing import Any, Final

from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from apps.vault.redact import where

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"

# code: (status, title). docs/device-api.md lists them too; a test compares the two.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "unauthorized": (401, "The API token is wrong, revoked or expired."),
    "unknown_device": (401, "No device has this id and secret: subscribe again."),
    "malformed": (400, "The request is not what the API describes."),
    "jwe_malformed": (400, "The JWE is not a compact JWE of acceptable size."),
    "jwe_header_forbidden": (400, "The JWE's protected header holds what is not allowed."),
    "jwe_unknown_key": (400, "The JWE names a key that is not ours: ask for the public key."),
    "jwe_expired_key": (400, "The JWE's key has expired: ask for the public key again."),
    "jwe_not_opened": (400, "The JWE does not open."),
    "jwe_replayed": (400, "This JWE was opened before: make a new one."),
    "jwe_stale": (400, "The JWE's `iat` is too far from our clock."),
    "jwe_other_device": (400, "The JWE is bound to another device."),
    "counter_not_rising": (400, "The JWE's counter is not above the last one."),
    "address_needed": (400, "Bring the push token and content key with the credentials."),
    "not_this_mailbox": (400, "The address is not the one this device joined with."),
    "credentials_expired": (400, "The token has expired: get a new one first."),
    "certificate_expired": (400, "The client certificate has expired."),
    "certificate_unusable": (400, "The client certificate can't be opened and used."),
    "ews_url_not_allowed": (400, "The EWS URL is outside the organization's mail systems."),
    "ews_url_missing": (400, "No EWS URL was given, and for this address none can be found."),
    "not_enabled": (403, "Email notification is off for this organization group."),
    "device_blocked": (403, "An administrator has blocked this device."),
    "too_large": (413, "The request is too large."),
    "too_many_attempts": (429, "Too many attempts: wait before the next one."),
    "no_key_ready": (503, "No public key is ready yet: try again shortly."),
    "unavailable": (503, "The service can't take the request just now: try again shortly."),
}


class Problem(exceptions.APIException):
    """Ends a request with the problem document of `code`; `detail` may name a member at fault."""

    def __init__(self, code: str, detail: str = "", retry_after_s: int | None = None) -> None:
        status, title = PROBLEMS[code]
        super().__init__(detail or title, code)
        self.status_code = status
        self.problem_code = code
        self.retry_after_s = retry_after_s


def document(code: str, detail: str = "") -> dict[str, Any]:
    """The problem document of a code."""
    status, title = PROBLEMS[code]
    made = {"type": f"urn:ens:problem:{code}", "title": title, "status": status, "code": code}
    if detail and detail != title:
        made["detail"] = detail
    return made


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """What DRF calls for every exception of a view; unknown ones say nothing of themselves."""
    headers: dict[str, str] = {}
    if isinstance(error, Problem):
        body = document(error.problem_code, str(error.detail))
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, exceptions.ValidationError):
        body = document("malformed", where_malformed(error.detail))
    elif isinstance(error, exceptions.APIException | Http404):
        status = getattr(error, "status_code", 404)
        body = document("malformed") | {"status": status, "title": _title(error)}
    else:
        log.error("the device API failed: %s", where(error))
        body = document("unavailable")
        headers["Retry-After"] = "10"
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def _title(error: Exception) -> str:
    """The class of an exception in words; its own text might repeat what was sent."""
    text = getattr(type(error), "default_detail", "Not found.")
    return str(text)


def where_malformed(detail: Any, path: str = "") -> str:
    """Name the members at fault, never their values."""
    if isinstance(detail, dict):
        return "; ".join(
            where_malformed(inner, f"{path}.{name}".strip(".")) for name, inner in detail.items()
        )
    reasons = detail if isinstance(detail, list) else [detail]
    codes = ", ".join(str(getattr(reason, "code", "invalid")) for reason in reasons)
    return f"{path or 'body'}: {codes}"
