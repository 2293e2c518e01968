"""Channel bindings: a login that is good on one TLS connection only.

Extended Protection, on by default since Exchange 2019 CU14, refuses logins by NTLM and Kerberos
that don't name the server's certificate: a stolen one would do on another connection.
https://learn.microsoft.com/exchange/plan-and-deploy/post-installation-tasks/security-best-practices/exchange-extended-protection
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings


def server_end_point(certificate_pem: str) -> GssChannelBindings | None:
    """The `tls-server-end-point` binding of RFC 5929, section 4.1.

    None for a certificate whose signature knows no hash (Ed25519), for which there is none, and
    for what is no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    data = b"tls-server-end-point:" + certificate.fingerprint(algorithm)
    return GssChannelBindings(application_data=data)
