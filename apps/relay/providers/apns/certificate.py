"""What a push certificate of Apple's says: for which topics and environments it is.

The topic stands in the subject's user id; where there are several, or for other kinds than
alerts, they are listed in an extension as a sequence of names, each followed by its kinds.
https://developer.apple.com/documentation/usernotifications/establishing-a-certificate-based-connection-to-apns
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

_SANDBOX = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
_PRODUCTION = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
_TOPICS = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_SEQUENCE = 0x30
_UTF8_STRING = 0x0C


class CertificateOdd(Exception):
    """The certificate's extensions can't be read."""


def topics(certificate: x509.Certificate) -> list[str]:
    """The topics it is good for, its own first; empty when it is no push certificate.

    Raises:
        CertificateOdd: the extensions are not DER.
    """
    found = [
        str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    ]
    value = _extension(certificate, _TOPICS)
    if value is not None:
        for tag, content in _values(_content_of_sequence(value)):
            if tag == _UTF8_STRING:
                found.append(content.decode("utf-8", "replace"))
    return list(dict.fromkeys(found))


def environments(certificate: x509.Certificate) -> list[str]:
    """`sandbox`, `production`, both, or none of them.

    Raises:
        CertificateOdd: the extensions are not DER.
    """
    named = (("sandbox", _SANDBOX), ("production", _PRODUCTION))
    return [name for name, oid in named if _extension(certificate, oid) is not None]


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension):
        raise CertificateOdd from None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _content_of_sequence(der: bytes) -> bytes:
    (first, *rest) = _values(der) or [(0, b"")]
    if first[0] != _SEQUENCE or rest:
        raise CertificateOdd
    return first[1]


def _values(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each value, one after the other (X.690, definite lengths)."""
    found: list[tuple[int, bytes]] = []
    while der:
        if len(der) < 2:
            raise CertificateOdd
        start, length = 2, der[1]
        if length & 0x80:
            size = length & 0x7F
            start += size
            length = int.from_bytes(der[2:start])
            if not 0 < size <= 3:
                raise CertificateOdd
        if len(der) < start + length:
            raise CertificateOdd
        found.append((der[0], der[start : start + length]))
        der = der[start + length :]
    return found
