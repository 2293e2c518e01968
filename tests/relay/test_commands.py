"""The relay's two commands, and what they say to wrong input."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.management import CommandError, call_command

from apps.cns.channel import load_channel, make_channel
from apps.relay.models import Deployment, PushApp
from apps.relay.providers.apns.credentials import read_credentials
from apps.relay.push_apps import opened

pytestmark = pytest.mark.django_db

APP = "com.example.mail"
IDS = ("--key-id", "KEYID12345", "--team-id", "TEAM123456")


def deployment(*arguments: str | Path) -> str:
    out = StringIO()
    call_command("relay_deployment", *map(str, arguments), stdout=out)
    return out.getvalue()


def push_app(*arguments: str | Path) -> str:
    out = StringIO()
    call_command("relay_push_app", *map(str, arguments), stdout=out)
    return out.getvalue()


def p8(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """As the other side made it, private key included by mistake."""
    file = tmp_path / "cns.pem"
    file.write_bytes(b"".join(make_channel("ENS")))
    return file


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "AuthKey.p8"
    file.write_bytes(p8(ec.generate_private_key(ec.SECP256R1())))
    return file


def test_a_deployment_is_registered_listed_and_revoked(certificate: Path) -> None:
    thumbprint = load_channel(certificate.read_bytes()).thumbprint
    assert thumbprint in deployment("add", "--name", "acme", "--certificate", certificate)
    assert deployment("list").split() == ["acme", thumbprint, "active", "no", "apps"]
    assert "PRIVATE" not in Deployment.objects.get().certificate
    deployment("revoke", "--name", "acme")
    assert "revoked" in deployment("list")


def test_a_deployment_is_registered_once(certificate: Path, tmp_path: Path) -> None:
    deployment("add", "--name", "acme", "--certificate", certificate)
    with pytest.raises(CommandError, match="registered already"):
        deployment("add", "--name", "other", "--certificate", certificate)
    deployment("revoke", "--name", "acme")
    with pytest.raises(CommandError, match="registered already"):
        deployment("add", "--name", "other", "--certificate", certificate)
    fresh = tmp_path / "fresh.pem"
    fresh.write_bytes(make_channel("ENS")[1])
    with pytest.raises(CommandError, match="already"):
        deployment("add", "--name", "acme", "--certificate", fresh)
    with pytest.raises(CommandError, match="no deployment"):
        deployment("revoke", "--name", "acme")


@pytest.mark.parametrize("content", [b"", b"nonsense", make_channel("ENS")[0]])
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "wrong.pem"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="not a certificate"):
        deployment("add", "--name", "acme", "--certificate", file)
    with pytest.raises(CommandError, match="can't be read"):
        deployment("add", "--name", "acme", "--certificate", tmp_path / "none.pem")


def test_a_push_app_is_added_shared_and_listed(certificate: Path, key_file: Path) -> None:
    deployment("add", "--name", "acme", "--certificate", certificate)
    said = push_app("add", "--app", APP, "--key-file", key_file, *IDS, "--share", "acme")
    assert said == push_app("list")
    assert "apns:com.example.mail" in said
    assert "production, no push accepted yet  shared with: acme" in said
    assert "acme" in deployment("list")
    assert "apns:com.example.mail" in deployment("list")
    assert "nobody" in push_app("unshare", "--app", APP, "--with", "acme")
    assert "with: acme" in push_app("share", "--app", APP, "--with", "acme")


def test_the_key_is_sealed(key_file: Path) -> None:
    push_app("add", "--app", APP, "--key-file", key_file, *IDS)
    stored = PushApp.objects.get()
    assert b"PRIVATE" not in bytes(stored.sealed_key)
    assert read_credentials(opened(stored).credentials).p8 == key_file.read_bytes()


def test_a_key_is_replaced_and_sharing_stays(
    certificate: Path, key_file: Path, tmp_path: Path
) -> None:
    deployment("add", "--name", "acme", "--certificate", certificate)
    push_app("add", "--app", APP, "--key-file", key_file, *IDS, "--share", "acme")
    fresh = tmp_path / "fresh.p8"
    fresh.write_bytes(p8(ec.generate_private_key(ec.SECP256R1())))
    said = push_app("replace", "--app", APP, "--key-file", fresh, *IDS, "--sandbox")
    assert "sandbox" in said
    assert "with: acme" in said
    assert read_credentials(opened(PushApp.objects.get()).credentials).p8 == fresh.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--app", "no bundle", *IDS), "bundle id"),
        (("--app", APP, "--key-id", "short", "--team-id", "TEAM123456"), "key_id_malformed"),
        (("--app", APP, "--key-id", "KEYID12345", "--team-id", "team123456"), "team_id_malformed"),
        (("--app", APP, *IDS, "--share", "nobody"), "no deployment"),
    ],
)
def test_wrong_words_are_refused(
    key_file: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        push_app("add", "--key-file", key_file, *arguments)
    assert not PushApp.objects.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        p8(ed25519.Ed25519PrivateKey.generate()),
        p8(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_what_is_no_provider_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "wrong.p8"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="key_"):
        push_app("add", "--app", APP, "--key-file", file, *IDS)
    with pytest.raises(CommandError, match="can't be read"):
        push_app("add", "--app", APP, "--key-file", tmp_path / "none.p8", *IDS)


def test_an_app_must_be_there_to_be_shared(certificate: Path) -> None:
    deployment("add", "--name", "acme", "--certificate", certificate)
    with pytest.raises(CommandError, match="no push app"):
        push_app("share", "--app", APP, "--with", "acme")
