"""Apple's push certificates: what is taken, what is refused, and with which word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID
from django.core.management import CommandError, call_command

from apps.lab.apns.certificates import Asked, PushCertificates
from apps.relay.models import PushApp
from apps.relay.providers import CredentialsUnfit
from apps.relay.providers.apns.check import check_certificate
from apps.relay.providers.apns.credentials import Certificate, read_credentials
from apps.relay.push_apps import opened
from apps.relay.uploads import WORDS

APP = "com.example.mail"
PASSWORD = "Pässword of the p12"


@pytest.fixture(scope="module")
def apple() -> PushCertificates:
    return PushCertificates()


@pytest.fixture(scope="module")
def good(apple: PushCertificates) -> bytes:
    return apple.issue(Asked(APP), PASSWORD)


def code(p12: bytes, password: str = PASSWORD, app: str = APP, *, sandbox: bool = False) -> str:
    with pytest.raises(CredentialsUnfit) as caught:
        check_certificate(p12, password, app, sandbox=sandbox)
    assert caught.value.code in WORDS
    return caught.value.code


def test_a_good_one_is_kept_with_its_key_and_its_expiry(good: bytes) -> None:
    checked = check_certificate(good, PASSWORD, APP, sandbox=False)
    kept = read_credentials(checked.credentials)
    assert isinstance(kept, Certificate)
    assert kept.pem.count(b"BEGIN CERTIFICATE") == 1
    assert kept.pem.count(b"BEGIN PRIVATE KEY") == 1
    assert checked.expires_at is not None
    assert abs(checked.expires_at - datetime.now(UTC) - timedelta(days=365)) < timedelta(minutes=5)
    assert checked.summary["topics"] == APP
    assert checked.summary["environments"] == "sandbox,production"
    assert "PRIVATE" not in repr(checked)
    assert "PRIVATE" not in repr(kept)


def test_a_keychain_export_opens(good: bytes) -> None:
    """Old ciphers, as the Keychain writes them."""
    whole = pkcs12.load_pkcs12(good, PASSWORD.encode())
    assert whole.cert is not None
    old = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(PASSWORD.encode())
    )
    key = whole.key
    assert isinstance(key, rsa.RSAPrivateKey)
    again = pkcs12.serialize_key_and_certificates(
        b"x", key, whole.cert.certificate, [whole.cert.certificate], old
    )
    assert check_certificate(again, PASSWORD, APP, sandbox=True).expires_at is not None


def test_one_certificate_may_be_for_several_topics(apple: PushCertificates) -> None:
    many = tuple(f"{APP}.part{n}" for n in range(20))
    p12 = apple.issue(Asked(APP, more_topics=many), PASSWORD)
    for app in (APP, many[-1]):
        assert app in check_certificate(p12, PASSWORD, app, sandbox=False).summary["topics"]
    assert code(p12, app="com.example.other") == "topic_mismatch"


def test_what_is_wrong_has_a_code(apple: PushCertificates, good: bytes) -> None:
    assert code(good, "wrong") == "password_wrong"
    assert code(good, "") == "password_wrong"
    assert code(b"") == code(b"junk") == code(good[:200]) == "p12_unreadable"
    assert code(good, app="com.example.other") == "topic_mismatch"
    assert code(apple.issue(Asked(APP, days=-1), PASSWORD)) == "certificate_expired"
    production = apple.issue(Asked(APP, sandbox=False), PASSWORD)
    assert code(production, sandbox=True) == "environment_mismatch"
    neither = apple.issue(Asked(APP, sandbox=False, production=False), PASSWORD)
    assert code(neither) == "not_a_push_certificate"


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey


def p12(
    key: Key | None,
    certificate: x509.Certificate | None,
    others: list[x509.Certificate] | None = None,
) -> bytes:
    sealed = BestAvailableEncryption(PASSWORD.encode())
    return pkcs12.serialize_key_and_certificates(b"x", key, certificate, others, sealed)


def self_signed(key: Key, *extensions: tuple[str, bytes], ahead: int = 0) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.USER_ID, APP)])
    begins = datetime.now(UTC) + timedelta(days=ahead - 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=30))
    )
    for oid, value in extensions:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def test_key_and_certificate_must_be_there_and_belong_together() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(key)
    assert code(p12(None, None, [certificate])) == "key_missing"
    assert code(p12(key, None)) == "certificate_missing"
    other = ec.generate_private_key(ec.SECP256R1())
    assert code(p12(other, None, [certificate])) == "key_mismatch"
    assert code(p12(key, self_signed(key, ahead=5))) == "certificate_not_yet_valid"
    assert code(p12(key, certificate)) == "not_a_push_certificate"
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert code(p12(weak, self_signed(weak))) == "key_unsuitable"
    curve = ec.generate_private_key(ec.SECP384R1())
    assert code(p12(curve, self_signed(curve))) == "key_unsuitable"


@pytest.mark.parametrize(
    "listed",
    [b"", b"\x30", b"\x30\x05\x0c", b"\x30\x84\xff\xff\xff\xff", b"\x0c\x01a", b"\x30\x00\x30\x00"],
)
def test_hostile_extensions_are_refused(listed: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = (("1.2.840.113635.100.6.3.2", b"\x05\x00"), ("1.2.840.113635.100.6.3.6", listed))
    assert code(p12(key, self_signed(key, *extensions))) == "certificate_malformed"


def push_app(*arguments: str | Path) -> str:
    out = StringIO()
    call_command("relay_push_app", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def files(tmp_path: Path, good: bytes) -> tuple[str | Path, ...]:
    (tmp_path / "push.p12").write_bytes(good)
    (tmp_path / "password").write_text(f"{PASSWORD}\r\nnot this line\n", "utf-8")
    return "--certificate", tmp_path / "push.p12", "--password-file", tmp_path / "password"


@pytest.mark.django_db
def test_an_app_by_certificate_is_added_listed_and_removed(files: tuple[str, ...]) -> None:
    said = push_app("add", "--app", APP, *files)
    assert f"topics={APP}" in said
    assert "(in 364 days)" in said
    assert said == push_app("list")
    stored = PushApp.objects.get()
    kept = bytes(stored.sealed_key)
    assert b"BEGIN" not in kept
    assert stored.expires_at is not None
    with pytest.raises(CommandError, match="use replace"):
        push_app("add", "--app", APP, *files)
    first = stored.revision
    push_app("replace", "--app", APP, *files, "--sandbox")
    stored.refresh_from_db()
    assert stored.revision != first
    assert isinstance(read_credentials(opened(stored).credentials), Certificate)
    push_app("remove", "--app", APP)
    assert push_app("list") == ""
    with pytest.raises(CommandError, match="use add"):
        push_app("replace", "--app", APP, *files)


@pytest.mark.django_db
def test_refusals_tell_no_password(files: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="topic_mismatch: the certificate is for another app"):
        push_app("add", "--app", "com.example.other", *files)
    (tmp_path / "password").write_text("Wr0ng-Password", "utf-8")
    with pytest.raises(CommandError, match="password_wrong") as caught:
        push_app("add", "--app", APP, *files)
    assert "Wr0ng" not in str(caught.value)
    with pytest.raises(CommandError, match="--password-file is needed"):
        push_app("add", "--app", APP, *files[:2])
    assert not PushApp.objects.exists()
