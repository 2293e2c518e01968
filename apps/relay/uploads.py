"""What an operator hands in for a push app, checked by its provider before it is sealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from apps.relay.providers import Checked
from apps.relay.providers.apns.check import check_certificate, check_key


@dataclass(frozen=True, slots=True)
class Upload:
    """The file with what belongs to it; what a kind of file doesn't need stays empty.

    `kind`: `certificate` (Apple's, as .p12) or `key` (Apple's .p8).
    """

    kind: str
    app: str
    file: bytes = field(repr=False)
    password: str = field(default="", repr=False)
    key_id: str = ""
    team_id: str = ""
    sandbox: bool = False


def check_upload(upload: Upload) -> Checked:
    """What is to be kept of it.

    Raises:
        CredentialsUnfit: with a code that WORDS explains.
        KeyError: there is no such kind.
    """
    return _CHECKS[upload.kind](upload)


_CHECKS: dict[str, Callable[[Upload], Checked]] = {
    "certificate": lambda u: check_certificate(u.file, u.password, u.app, sandbox=u.sandbox),
    "key": lambda u: check_key(u.file, u.key_id, u.team_id),
}

# What the codes of CredentialsUnfit mean, for people.
WORDS = {
    "key_id_malformed": "the key id has 10 capital letters and digits",
    "team_id_malformed": "the team id has 10 capital letters and digits",
    "key_unreadable": "not a private key in PEM without a password",
    "key_not_p256": "not a P-256 key; Apple's AuthKey_….p8 files are",
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
}
