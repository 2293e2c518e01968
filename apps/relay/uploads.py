"""What an operator hands in for a push app, checked by its provider before it is sealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings

from apps.relay.providers import Checked
from apps.relay.providers.apns.check import check_certificate, check_key
from apps.relay.providers.fcm.check import check as check_service_account


@dataclass(frozen=True, slots=True)
class Upload:
    """The file with what belongs to it; what a kind of file doesn't need stays empty.

    `kind`: `certificate` (Apple's, as .p12), `key` (Apple's .p8), `service_account` (Google's) or
    `sns` (ours, docs/push-apps.md). `platform`: whose phones it is for, `apns` or `fcm`.
    """

    kind: str
    app: str
    file: bytes = field(repr=False)
    password: str = field(default="", repr=False)
    key_id: str = ""
    team_id: str = ""
    sandbox: bool = False
    platform: str = "apns"


def check_upload(upload: Upload) -> Checked:
    """What is to be kept of it.

    Raises:
        CredentialsUnfit: with a code that WORDS explains.
        KeyError: there is no such kind.
    """
    return _CHECKS[upload.kind](upload)


def _check_sns(upload: Upload) -> Checked:
    # Not above: Amazon's library takes a second to load, and few relays need it.
    from apps.relay.providers.sns.check import Wanted, check

    wanted = Wanted(upload.app, upload.platform, upload.sandbox)
    return check(upload.file, wanted, settings.ENS.relay_sns_url)


_CHECKS: dict[str, Callable[[Upload], Checked]] = {
    "certificate": lambda u: check_certificate(u.file, u.password, u.app, sandbox=u.sandbox),
    "key": lambda u: check_key(u.file, u.key_id, u.team_id),
    "service_account": lambda u: check_service_account(u.file),
    "sns": _check_sns,
}

# What the codes of CredentialsUnfit mean, for people.
WORDS = {
    "key_id_malformed": "the key id has 10 capital letters and digits",
    "team_id_malformed": "the team id has 10 capital letters and digits",
    "key_unreadable": "not a private key in PEM without a password",
    "key_not_p256": "not a P-256 key; Apple's AuthKey_….p8 files are",
    "busy": "not opened yet, for others are being opened: try again",
    "p12_unreadable": "not a PKCS #12 file (.p12)",
    "password_wrong": "the password doesn't open it",
    "certificate_missing": "there is no certificate in it",
    "key_missing": "there is no private key in it: export the certificate together with its key",
    "key_mismatch": "the private key is not the certificate's",
    "key_unsuitable": "the key is neither RSA of 2048 bits or more nor on P-256",
    "certificate_not_yet_valid": "the certificate is not valid yet; is the clock right?",
    "certificate_expired": "the certificate has expired",
    "certificate_malformed": "the certificate's extensions can't be read",
    "not_a_push_certificate": "not a push certificate of Apple's: no topic or no environment in it",
    "topic_mismatch": "the certificate is for another app",
    "environment_mismatch": "the certificate is for the other environment (production, sandbox)",
    "service_account_too_large": "larger than any service account's file",
    "service_account_not_json": "not a JSON file",
    "service_account_wrong_type": "not a service account's key; Firebase hands one out under "
    "Project settings, Service accounts",
    "token_uri_not_google": "its tokens would come from somewhere else than Google",
    "project_id_malformed": "the project id in it is none",
    "client_email_malformed": "the account's name in it is none of Google's",
    "private_key_id_malformed": "the key's id in it is none",
    "private_key_unusable": "the private key in it can't be read, or is no RSA key",
    "private_key_too_weak": "the private key in it has less than 2048 bits",
    "sns_too_large": "larger than any file of that kind",
    "sns_not_json": "not a JSON file",
    "region_malformed": "region: one of Amazon's, as eu-central-1",
    "access_key_id_malformed": "access_key_id: 16 or more capital letters and digits",
    "secret_access_key_malformed": "secret_access_key: what Amazon showed with the key id",
    "platform_application_arn_malformed": "platform_application_arn: "
    "arn:aws:sns:<region>:<account>:app/<APNS, APNS_SANDBOX or GCM>/<name>",
    "platform_application_of_another_region": "the platform application is in another region",
    "platform_application_of_another_platform": "the platform application is for other phones, or "
    "for the other environment (production, sandbox)",
    "platform_application_of_another_app": "the platform application is for another app",
    "platform_application_not_found": "Amazon knows no such platform application",
    "platform_application_disabled": "the platform application is disabled",
    "sns_access_denied": "the key may not do what is needed; docs/push-apps.md lists it",
    "sns_key_refused": "Amazon refuses the access key",
}
