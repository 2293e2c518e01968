"""Whether an uploaded file is a service account with which messages can be sent.

https://developers.google.com/workspace/guides/create-credentials#service-account
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from apps.relay.providers import Checked, CredentialsUnfit
from apps.relay.providers.fcm.account import ServiceAccount
from apps.relay.providers.fcm.token import TOKEN_URI

MAX_UPLOAD_BYTES = 16 * 1024
_LEAST_KEY_BITS = 2048
# Larger ones would keep the machine busy with their arithmetic.
_MOST_KEY_BITS = 8192
_UNIVERSE = "googleapis.com"
# Projects of a company's domain are called `example.com:project`.
_PROJECT_ID = re.compile(r"(?:[a-z0-9.-]{1,100}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_EMAIL = re.compile(r"[a-z0-9._-]{1,100}@(?:[a-z0-9-]{1,63}\.){1,8}gserviceaccount\.com")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check(upload: bytes) -> Checked:
    """Check a service account's JSON file as Google's console hands it out.

    Of the file only the account's names and key are kept. Where its tokens come from is not up to
    the file: a `token_uri` other than Google's is refused.

    Raises:
        CredentialsUnfit: service_account_too_large, service_account_not_json,
            service_account_wrong_type (another kind of file of Google's), project_id_malformed,
            client_email_malformed, private_key_id_malformed, token_uri_not_google,
            private_key_unusable, private_key_too_weak.
    """
    content = _content(upload)
    if content.get("type") != "service_account":
        raise CredentialsUnfit("service_account_wrong_type")
    if content.get("token_uri") != TOKEN_URI or content.get("universe_domain") not in (
        None,
        _UNIVERSE,
    ):
        raise CredentialsUnfit("token_uri_not_google")
    account = ServiceAccount(
        project_id=_text(content, "project_id", _PROJECT_ID),
        client_email=_text(content, "client_email", _EMAIL),
        private_key_id=_text(content, "private_key_id", _KEY_ID),
        private_key=str(content.get("private_key")),
    )
    summary = {
        "project_id": account.project_id,
        "client_email": account.client_email,
        "key_id": account.private_key_id,
        "fingerprint": _fingerprint(account.private_key),
    }
    return Checked(account.dump(), None, summary)


def _content(upload: bytes) -> dict[str, Any]:
    if len(upload) > MAX_UPLOAD_BYTES:
        raise CredentialsUnfit("service_account_too_large")
    try:
        found = json.loads(upload.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise CredentialsUnfit("service_account_not_json") from None
    if not isinstance(found, dict):
        raise CredentialsUnfit("service_account_not_json")
    return found


def _text(content: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    found = content.get(name)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise CredentialsUnfit(f"{name}_malformed")
    return found


def _fingerprint(private_key: str) -> str:
    """SHA-256 of the public key, in hex: tells two keys apart and gives nothing away."""
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except (ValueError, TypeError, UnicodeEncodeError):
        raise CredentialsUnfit("private_key_unusable") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialsUnfit("private_key_unusable")
    if not _LEAST_KEY_BITS <= key.key_size <= _MOST_KEY_BITS:
        raise CredentialsUnfit("private_key_too_weak")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()
