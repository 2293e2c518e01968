"""The lab's private certificate authority, made at start and thrown away at the end.

The lab's servers speak TLS as a company's do, behind a CA that no system knows; whoever calls
them must be told to trust it. Keys are P-256 (RFC 5480), certificates X.509 v3 (RFC 5280).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """Where a certificate (with its chain) and its key lie, both PEM."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """A TLS context for a server that shows this certificate; TLS 1.2 at least."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


class LabCa:
    """A CA with its files in one directory: `ca.pem`, and a pair of files for each server."""

    def __init__(self, directory: Path) -> None:
        """Makes a new CA in `directory`, which must exist; an earlier `ca.pem` is replaced."""
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ENS lab CA")])
        self._certificate = (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem_file = directory / "ca.pem"
        self.pem_file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> str:
        """The CA certificate, PEM."""
        return self.pem_file.read_text("ascii")

    def issue(self, name: str, hosts: Iterable[str] = LOOPBACK_NAMES) -> ServerFiles:
        """A new server certificate for `hosts` (names and IP addresses), in files called `name`."""
        kind = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return self._issue(name, kind, map(_alternative, hosts), _LIFETIME)

    def issue_client(self, address: str, lifetime_s: float) -> ServerFiles:
        """A new client certificate for the owner of an address, in files called by it."""
        kind = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        lifetime = timedelta(hours=1, seconds=lifetime_s)
        return self._issue(address, kind, [x509.RFC822Name(address)], lifetime)

    def _issue(
        self,
        name: str,
        kind: x509.ExtendedKeyUsage,
        alternatives: Iterable[x509.GeneralName],
        lifetime: timedelta,
    ) -> ServerFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(subject, self._certificate.subject, key.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(kind, critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = ServerFiles(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        encoded = certificate.public_bytes(serialization.Encoding.PEM)
        files.certificate.write_bytes(encoded + self.pem_file.read_bytes())
        _write_private(files.key, key)
        return files

    def client_context(self) -> ssl.SSLContext:
        """A TLS context for a client that trusts this CA and no other."""
        return ssl.create_default_context(cafile=str(self.pem_file))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta = _LIFETIME,
) -> x509.CertificateBuilder:
    # An hour into the past: clocks of the machines that trust the lab may be a little behind.
    start = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    address: IPv4Address | IPv6Address
    try:
        address = ip_address(host)
    except ValueError:
        return x509.DNSName(host)
    return x509.IPAddress(address)


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
