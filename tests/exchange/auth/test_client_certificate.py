"""Files as others make them (OpenSSL old and new, BER), and files as nobody should."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from apps.exchange.auth.client_certificate import CertificateUnusable, read_client_certificate
from apps.wire.pkcs12 import SECONDS
from tests.wire.pkcs12_files import pfx_with_nested_key

PASSWORD = "Pä55wörd ☕"


def certificate(key: Any, issuer: str = "anna", days: int = 30) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
    builder = builder.subject_name(_name("anna")).issuer_name(_name(issuer))
    builder = builder.public_key(key.public_key())
    builder = builder.not_valid_before(now - timedelta(days=60)).not_valid_after(
        now + timedelta(days=days)
    )
    edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    return builder.sign(key, None if edwards else hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def file(
    key: Any = None,
    leaf: x509.Certificate | None = None,
    others: list[x509.Certificate] | None = None,
    kind: pkcs12.PBES = pkcs12.PBES.PBESv2SHA256AndAES256CBC,
    rounds: int = 2048,
    password: str = PASSWORD,
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(rounds)
        .key_cert_algorithm(kind)
        .build(password.encode())
    )
    return pkcs12.serialize_key_and_certificates(
        b"x", key, leaf or certificate(key), others, encryption
    )


def in_clear() -> bytes:
    return pkcs12.serialize_key_and_certificates(
        None, rsa_key(), certificate(rsa_key()), None, serialization.NoEncryption()
    )


@pytest.mark.parametrize("kind", pkcs12.PBES)
def test_what_cryptography_writes(kind: pkcs12.PBES) -> None:
    key, issuer = rsa_key(), ec.generate_private_key(ec.SECP384R1())
    above = certificate(issuer, "root")
    # The old derivation knows passwords of UTF-16, which cryptography writes for ASCII only.
    password = PASSWORD if "v2" in kind.name else "plain"
    opened = read_client_certificate(file(key, None, [above], kind, password=password), password)
    found = x509.load_pem_x509_certificates(opened.pem.encode())
    assert [each.public_key() for each in found] == [key.public_key(), issuer.public_key()]
    loaded = serialization.load_pem_private_key(opened.pem.encode(), None)
    assert loaded.public_key() == key.public_key()
    assert abs(opened.expires_at - time.time() - 30 * 86400) < 60
    assert "PRIVATE" not in repr(opened)


OPENSSL = {
    "old": ["-legacy"],
    "RC2 with a long key": ["-legacy", "-certpbe", "PBE-SHA1-RC2-128"],
    "Windows": ["-legacy", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES"],
    "new": [],
    "AES-128": ["-certpbe", "AES-128-CBC", "-keypbe", "AES-128-CBC"],
    "open": ["-certpbe", "NONE", "-keypbe", "AES-256-CBC"],
    "no MAC": ["-nomac"],
}


def openssl(folder: Path, key: Any, *options: str) -> bytes:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "in.pem").write_bytes(pem + certificate(key).public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "pkcs12", "-export", "-in", str(folder / "in.pem")]
    command += ["-out", str(folder / "out.p12"), "-passout", f"pass:{PASSWORD}", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return (folder / "out.p12").read_bytes()


@pytest.mark.parametrize("options", OPENSSL.values(), ids=list(OPENSSL))
def test_what_openssl_writes(options: list[str], tmp_path: Path) -> None:
    raw = openssl(tmp_path, rsa_key(), *options)
    opened = read_client_certificate(raw, PASSWORD)
    loaded = serialization.load_pem_private_key(opened.pem.encode(), None)
    assert loaded.public_key() == rsa_key().public_key()
    for wrong in ("wrong", "", PASSWORD + " "):
        with pytest.raises(CertificateUnusable):
            read_client_certificate(raw, wrong)


def nested(rounds: int) -> bytes:
    """A costly key within a safe whose own encryption costs nothing."""
    return pfx_with_nested_key(rsa_key(), certificate(rsa_key()), PASSWORD, rounds)


def test_a_costly_key_within_a_cheap_safe() -> None:
    """It is looked for in vain for as long as it may take, and then it is no use to anybody."""
    opened = read_client_certificate(nested(2048), PASSWORD)
    assert "PRIVATE KEY" in opened.pem
    began = time.monotonic()
    with pytest.raises(CertificateUnusable):
        read_client_certificate(nested(2_000_000_000), PASSWORD)
    assert SECONDS - 0.5 < time.monotonic() - began < SECONDS + 5
    assert not [each for each in psutil.Process().children() if "pkcs12" in str(each.cmdline())]


def test_costly_files_hold_up_few_threads() -> None:
    """Those of a web process are few, and Exchange's notifications need them, too."""
    raw = nested(2_000_000_000)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        opening = [threads.submit(code_of, raw) for _ in range(8)]
        time.sleep(SECONDS / 2)
        done = [each.result() for each in opening if each.done()]
        assert done == ["busy"] * 5
    assert time.monotonic() - began < 2 * SECONDS + 5
    assert code_of(file()) == ""


def code_of(raw: bytes) -> str:
    try:
        read_client_certificate(raw, PASSWORD)
    except CertificateUnusable as error:
        return error.code
    return ""


def test_expired() -> None:
    key = rsa_key()
    with pytest.raises(CertificateUnusable) as caught:
        read_client_certificate(file(key, certificate(key, days=-1)), PASSWORD)
    assert caught.value.code == "certificate_expired"


@pytest.mark.parametrize(
    "made",
    [
        lambda: b"",
        lambda: b"\x30\x80",
        lambda: bytes(8192),
        lambda: bytes(8193),
        lambda: b"\x30" * 8192,
        lambda: b"\x24\x80" * 4096,
        lambda: file()[:-1],
        lambda: pfx_with_nested_key(rsa_key(), certificate(rsa_key(1024)), PASSWORD, 10),
        lambda: file(rsa_key(6144)),
        # An X.509 version that there is none of: found by fuzzing.
        lambda: in_clear().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x14"),
        lambda: pkcs12.serialize_key_and_certificates(
            None, None, certificate(rsa_key()), None, serialization.NoEncryption()
        ),
    ],
)
def test_what_is_of_no_use(made: Callable[[], bytes]) -> None:
    with pytest.raises(CertificateUnusable) as caught:
        read_client_certificate(made(), PASSWORD)
    assert str(caught.value) == "certificate_unusable"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_keys_that_tls_does_not_know() -> None:
    key = dsa.generate_private_key(2048)
    with pytest.raises(CertificateUnusable):
        read_client_certificate(file(key), PASSWORD)
