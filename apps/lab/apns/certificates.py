"""Push certificates as Apple hands them out, and what one that is shown says about its owner.

The topic stands in the subject's UID; a certificate for several topics lists them in an extension,
and two others say for which environments it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from apps.lab.apns.answers import Refused

_SANDBOX = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
_PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
_TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_NULL = b"\x05\x00"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a push certificate shall be like. `days` until it expires, from now."""

    topic: str
    more_topics: tuple[str, ...] = ()
    sandbox: bool = True
    production: bool = True
    days: float = 365


class PushCertificates:
    """An authority for push certificates: issues them, and reads those that are shown."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab Push Authority")])
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key(), 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM).decode()
        self._revoked: set[int] = set()

    def issue(self, asked: Asked, password: str) -> bytes:
        """A new key with its certificate as `.p12`, RSA-2048 as Apple's are."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, asked.topic),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {asked.topic}"),
            ]
        )
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(subject, self._name, key.public_key(), asked.days).add_extension(
            usage, critical=True
        )
        for oid, wanted in ((_SANDBOX, asked.sandbox), (_PRODUCTION, asked.production)):
            if wanted:
                extension = x509.UnrecognizedExtension(oid, _NULL)
                builder = builder.add_extension(extension, critical=False)
        if asked.more_topics:
            listed = _sequence(*map(_topic, (asked.topic, *asked.more_topics)))
            extension = x509.UnrecognizedExtension(_TOPICS, listed)
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        sealed = BestAvailableEncryption(password.encode())
        name = asked.topic.encode()
        return pkcs12.serialize_key_and_certificates(name, key, certificate, None, sealed)

    def revoke(self, certificate: x509.Certificate) -> None:
        """From now on pushes with it are answered BadCertificate."""
        self._revoked.add(certificate.serial_number)

    def check(self, der: bytes, *, sandbox: bool) -> frozenset[str]:
        """The topics that the owner of this certificate may push to.

        Raises:
            Refused: BadCertificate or BadCertificateEnvironment.
        """
        certificate = x509.load_der_x509_certificate(der)
        now = datetime.now(UTC)
        if certificate.serial_number in self._revoked or certificate.not_valid_after_utc < now:
            raise Refused("BadCertificate")
        extensions = {each.oid: each.value for each in certificate.extensions}
        if (_SANDBOX if sandbox else _PRODUCTION) not in extensions:
            raise Refused("BadCertificateEnvironment")
        uid = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
        topics = {str(each.value) for each in uid}
        listed = extensions.get(_TOPICS)
        if isinstance(listed, x509.UnrecognizedExtension):
            topics.update(_listed(listed.value))
        return frozenset(topics)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    days: float,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
    )


def _topic(topic: str) -> bytes:
    """As Apple writes one: its name, and a sequence with its kind."""
    return _tagged(0x0C, topic.encode()) + _sequence(_tagged(0x0C, b"app"))


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _tagged(tag: int, content: bytes) -> bytes:
    """One DER value of less than 64 KB."""
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    return bytes((tag, 0x82)) + len(content).to_bytes(2) + content


def _listed(value: bytes) -> list[str]:
    """The topics in what `_sequence` wrote: our own certificates only."""
    content = value[2:] if value[1] < 0x80 else value[4:]
    found = []
    while content:
        tag, length = content[0], content[1]
        if tag == 0x0C:
            found.append(content[2 : 2 + length].decode())
        content = content[2 + length :]
    return found
