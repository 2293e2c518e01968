"""What SNS's refusals mean: dead token, try again, or ours to fix.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors
https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
"""

from __future__ import annotations

import re
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from apps.relay.providers import Outcome

_RETRY_S: Final = 2.0
_THROTTLED_S: Final = 10.0
_THROTTLED: Final = re.compile(r"Throttl|RequestLimitExceeded|TooManyRequests|SlowDown")
# What SNS has against the access key or the platform application rather than this token.
_OURS: Final = re.compile(
    r"AuthorizationError|AccessDenied|InvalidClientTokenId|SignatureDoesNotMatch|InvalidSecurity"
    r"|MissingAuthenticationToken|IncompleteSignature|OptInRequired|ExpiredToken|RequestExpired"
    r"|PlatformApplicationDisabled|NotFound|KMS"
)
_CODE: Final = re.compile(r"[A-Za-z]{1,64}")
_EXISTING: Final = re.compile(r"Endpoint (arn:[A-Za-z0-9:/_.-]{20,600}) already exists")


def code_of(error: ClientError) -> str:
    """Amazon's code for what went wrong."""
    code = str(error.response.get("Error", {}).get("Code", "")).removesuffix("Exception")
    return code if _CODE.fullmatch(code) else f"http_{_status(error)}"


def classify(error: ClientError) -> Outcome:
    """The outcome of a notification that SNS has refused."""
    code = code_of(error)
    if _THROTTLED.search(code) or _status(error) == 429:
        return Outcome("retry", code, retry_after_s=_THROTTLED_S)
    if _status(error) >= 500:
        return Outcome("retry", code, retry_after_s=_RETRY_S)
    if code == "EndpointDisabled" or is_about_token(error):
        return Outcome("dead", code)
    return Outcome("failed", code, ours_to_fix=_OURS.match(code) is not None)


def classify_failure(error: BotoCoreError) -> Outcome:
    """The outcome of a notification that got no answer: it may have arrived or not."""
    return Outcome("retry", f"sns_{type(error).__name__}"[:64], retry_after_s=_RETRY_S)


def existing_endpoint(error: ClientError) -> str | None:
    """The endpoint that has this token already, with other attributes than ours.

    Amazon's own way to learn its name is to read it from the message:
    https://docs.aws.amazon.com/sns/latest/dg/mobile-platform-endpoint.html
    """
    found = _EXISTING.search(_message(error)) if code_of(error) == "InvalidParameter" else None
    return found[1] if found else None


def is_gone(error: ClientError) -> bool:
    """Whether the endpoint has been deleted behind our back."""
    code = code_of(error)
    return code == "NotFound" or (
        code == "InvalidParameter" and "No endpoint found" in _message(error)
    )


def is_about_token(error: ClientError) -> bool:
    """Whether SNS says that this is no device token at all."""
    invalid = code_of(error) == "InvalidParameter"
    return invalid and _message(error).startswith("Invalid parameter: Token Reason")


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
