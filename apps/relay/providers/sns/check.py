"""Whether an access key can publish to a platform application, and whether that is the app's.

https://docs.aws.amazon.com/sns/latest/api/API_GetPlatformApplicationAttributes.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from apps.relay.providers import Checked, CredentialsUnfit
from apps.relay.providers.sns.account import Service, SnsAccount
from apps.relay.providers.sns.classify import code_of
from apps.relay.providers.sns.client import make_client

MAX_UPLOAD_BYTES = 8 * 1024
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")
_SECRET = re.compile(r"[A-Za-z0-9/+=]{16,128}")
_ARN = re.compile(
    r"arn:aws(?:-[a-z-]{1,20})?:sns:(?P<region>[a-z0-9-]{5,40}):[0-9]{12}"
    r":app/(?P<service>APNS|APNS_SANDBOX|GCM)/[A-Za-z0-9_.-]{1,256}"
)
_REFUSALS = {
    "NotFound": "platform_application_not_found",
    "InvalidParameter": "platform_application_not_found",
    "AuthorizationError": "sns_access_denied",
    "AccessDenied": "sns_access_denied",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the credentials are for: an app by its name, its platform, and whether the sandbox."""

    app: str
    platform: str
    sandbox: bool

    @property
    def service(self) -> Service:
        """What SNS calls that."""
        if self.platform == "fcm":
            return "GCM"
        return "APNS_SANDBOX" if self.sandbox else "APNS"


def check(upload: bytes, wanted: Wanted, endpoint_url: str | None = None) -> Checked:
    """Check `{"region", "access_key_id", "secret_access_key", "platform_application_arn"}`.

    Amazon is asked whether the key may see the platform application. When it can't be reached
    from here, the summary says `verified: no`.

    Raises:
        CredentialsUnfit: sns_too_large, sns_not_json, region_malformed, access_key_id_malformed,
            secret_access_key_malformed, platform_application_arn_malformed,
            platform_application_of_another_region, platform_application_of_another_platform,
            platform_application_of_another_app, platform_application_not_found,
            platform_application_disabled, sns_access_denied, sns_key_refused.
    """
    account = _read(upload, wanted)
    attributes = _attributes(account, endpoint_url)
    summary = {
        "region": account.region,
        "access_key_id": account.access_key_id,
        "platform_application_arn": account.application_arn,
        "verified": "yes" if attributes is not None else "no",
    }
    if attributes is None:
        return Checked(account.dump(), None, summary)
    if str(attributes.get("Enabled", "true")).lower() == "false":
        raise CredentialsUnfit("platform_application_disabled")
    if attributes.get("ApplePlatformBundleID", wanted.app) != wanted.app:
        raise CredentialsUnfit("platform_application_of_another_app")
    return Checked(account.dump(), _expiry(attributes), summary)


def _read(upload: bytes, wanted: Wanted) -> SnsAccount:
    if len(upload) > MAX_UPLOAD_BYTES:
        raise CredentialsUnfit("sns_too_large")
    try:
        content = json.loads(upload.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise CredentialsUnfit("sns_not_json") from None
    if not isinstance(content, dict):
        raise CredentialsUnfit("sns_not_json")
    region = _text(content, "region", _REGION)
    arn = _ARN.fullmatch(_text(content, "platform_application_arn", _ARN))
    assert arn is not None
    if arn["region"] != region:
        raise CredentialsUnfit("platform_application_of_another_region")
    if arn["service"] != wanted.service:
        raise CredentialsUnfit("platform_application_of_another_platform")
    return SnsAccount(
        region=region,
        access_key_id=_text(content, "access_key_id", _KEY_ID),
        application_arn=arn[0],
        service=wanted.service,
        secret_access_key=_text(content, "secret_access_key", _SECRET),
    )


def _text(content: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    found = content.get(name)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise CredentialsUnfit(f"{name}_malformed")
    return found


def _attributes(account: SnsAccount, endpoint_url: str | None) -> Mapping[str, str] | None:
    """What SNS says of the platform application; None when it can't be asked."""
    client = make_client(account, endpoint_url)
    try:
        answer = client.get_platform_application_attributes(
            PlatformApplicationArn=account.application_arn
        )
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            return None
        raise CredentialsUnfit(_REFUSALS.get(code_of(error), "sns_key_refused")) from None
    except BotoCoreError:
        return None
    found: Mapping[str, str] = answer["Attributes"]
    return found


def _expiry(attributes: Mapping[str, str]) -> datetime | None:
    """When the certificate with which SNS speaks to Apple expires, where it uses one."""
    text = attributes.get("AppleCertificateExpiryDate", "")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
