"""Which uploaded files are taken for service accounts, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from apps.lab.fcm.accounts import new_account
from apps.relay.providers import CredentialsUnfit
from apps.relay.providers.fcm.account import ServiceAccount
from apps.relay.providers.fcm.check import check
from apps.relay.uploads import WORDS


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(new_account("lab-mail-1")[0].file)
    return found


def test_a_file_of_googles_is_taken(content: dict[str, Any]) -> None:
    checked = check(json.dumps(content).encode())
    account = ServiceAccount.load(checked.credentials)
    assert (account.project_id, account.client_email) == ("lab-mail-1", content["client_email"])
    assert account.private_key == content["private_key"]
    assert checked.expires_at is None
    assert checked.summary["project_id"] == "lab-mail-1"
    assert checked.summary["key_id"] == content["private_key_id"]
    assert len(checked.summary["fingerprint"]) == 64


def test_nothing_secret_is_shown(content: dict[str, Any]) -> None:
    checked = check(json.dumps(content).encode())
    shown = repr(checked) + repr(ServiceAccount.load(checked.credentials)) + str(checked.summary)
    assert "PRIVATE KEY" not in shown
    assert content["private_key"].splitlines()[1] not in shown


def test_a_project_of_a_companys_domain_is_taken(content: dict[str, Any]) -> None:
    email = "push@lab-mail.example.com.iam.gserviceaccount.com"
    changed = content | {"project_id": "example.com:lab-mail", "client_email": email}
    assert check(json.dumps(changed).encode()).summary["project_id"] == "example.com:lab-mail"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"type": "authorized_user"}, "service_account_wrong_type"),
        ({"type": None}, "service_account_wrong_type"),
        ({"token_uri": "https://oauth2.googleapis.com.evil.example/token"}, "token_uri_not_google"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri_not_google"),
        ({"token_uri": "http://169.254.169.254/"}, "token_uri_not_google"),
        ({"token_uri": None}, "token_uri_not_google"),
        ({"universe_domain": "evil.example"}, "token_uri_not_google"),
        ({"project_id": "../../v1/projects/other"}, "project_id_malformed"),
        ({"project_id": "lab-mail-1/messages:send?"}, "project_id_malformed"),
        ({"project_id": 7}, "project_id_malformed"),
        ({"client_email": "someone@example.com"}, "client_email_malformed"),
        ({"client_email": ["a@b.iam.gserviceaccount.com"]}, "client_email_malformed"),
        ({"private_key_id": "a\r\nb"}, "private_key_id_malformed"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n"}, "private_key_unusable"),
        ({"private_key": "\ud800"}, "private_key_unusable"),
        ({"private_key": None}, "private_key_unusable"),
        ({"private_key": pem(ec.generate_private_key(ec.SECP256R1()))}, "private_key_unusable"),
        ({"private_key": pem(rsa.generate_private_key(65537, 1024))}, "private_key_too_weak"),
    ],
)
def test_what_is_not_fit_is_refused(
    content: dict[str, Any], change: dict[str, Any], code: str
) -> None:
    with pytest.raises(CredentialsUnfit) as caught:
        check(json.dumps(content | change).encode())
    assert caught.value.code == code
    assert code in WORDS


@pytest.mark.parametrize(
    ("upload", "code"),
    [
        (b"", "service_account_not_json"),
        (b"\xff\xfe", "service_account_not_json"),
        (b"[" * 15_000, "service_account_not_json"),
        (b"[]", "service_account_not_json"),
        (b" " * 20_000 + b"{}", "service_account_too_large"),
    ],
)
def test_what_is_no_json_object_is_refused(upload: bytes, code: str) -> None:
    with pytest.raises(CredentialsUnfit) as caught:
        check(upload)
    assert caught.value.code == code
    assert code in WORDS
