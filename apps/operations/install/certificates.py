"""The TLS certificate in Windows' own store, where http.sys looks for it.

The answers name PEM files, as on Linux. Windows takes a PKCS#12, whose password must not stand on a
command line: PowerShell is given both by standard input, and no file is written.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from apps.operations.install.answers import Tls
from apps.operations.install.iis import SYSTEM32
from apps.operations.install.runner import Runner, must
from apps.operations.install.steps import StepFailed

CERTUTIL: Final = SYSTEM32 + r"\certutil.exe"
POWERSHELL: Final = SYSTEM32 + r"\WindowsPowerShell\v1.0\powershell.exe"
# What Server 2016 can open, too. The password lives as long as the two processes.
_ENCRYPTION: Final = (
    PrivateFormat.PKCS12.encryption_builder()
    .kdf_rounds(2_000)
    .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
    .hmac_hash(hashes.SHA1())  # noqa: S303 - see above
)
_SCRIPT: Final = """\
$ErrorActionPreference = 'Stop'
$space = 'System.Security.Cryptography.X509Certificates'
$all = New-Object "$space.X509Certificate2Collection"
$all.Import([Convert]::FromBase64String('@PKCS12@'), '@PASSWORD@', 'MachineKeySet, PersistKeySet')
$own = New-Object "$space.X509Store" 'My', 'LocalMachine'
$others = New-Object "$space.X509Store" 'CA', 'LocalMachine'
$own.Open('ReadWrite'); $others.Open('ReadWrite')
foreach ($one in $all) { if ($one.HasPrivateKey) { $own.Add($one) } else { $others.Add($one) } }
"""


def thumbprint(file: Path | None) -> str:
    """The SHA-1 of the certificate, by which Windows knows it; 40 hex digits.

    Raises:
        StepFailed: `tls_unreadable` or `tls_missing`.
    """
    if file is None:
        raise StepFailed("tls_missing", "tls.certificate_file and tls.key_file are missing")
    try:
        shown = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise StepFailed("tls_unreadable", f"{file} is no PEM certificate ({reason})") from None
    return shown.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - Windows' own name for it


def script(tls: Tls, password: str) -> str:
    """What PowerShell is given: certificate, chain and key as a PKCS#12 under `password`.

    Raises:
        StepFailed: the files can't be read.
    """
    assert tls.certificate_file is not None
    assert tls.key_file is not None
    try:
        own, *chain = x509.load_pem_x509_certificates(tls.certificate_file.read_bytes())
        key = load_pem_private_key(tls.key_file.read_bytes(), None)
        made = pkcs12.serialize_key_and_certificates(
            b"ENS",
            key,  # type: ignore[arg-type] # a key that is not for TLS is refused by the checks
            own,
            chain,
            _ENCRYPTION.build(password.encode()),
        )
    except (OSError, ValueError, TypeError) as error:
        reason = type(error).__name__
        raise StepFailed("tls_unreadable", f"The TLS files can't be read ({reason})") from None
    encoded = b64encode(made).decode()
    return _SCRIPT.replace("@PKCS12@", encoded).replace("@PASSWORD@", password)


@dataclass(frozen=True)
class Imported:
    """The certificate is in the computer's store `My`, and its chain beside it."""

    tls: Tls
    runner: Runner
    title: str = "TLS certificate in Windows' store"

    def needed(self) -> bool:
        """See Step."""
        found = thumbprint(self.tls.certificate_file)
        return not self.runner.run((CERTUTIL, "-store", "My", found)).ok

    def describe(self) -> str:
        """See Step."""
        return f"import {self.tls.certificate_file} with its key"

    def apply(self) -> None:
        """See Step."""
        argv = (POWERSHELL, "-NoProfile", "-NonInteractive", "-Command", "-")
        done = self.runner.run(argv, script(self.tls, secrets.token_hex(16)))
        must(done, "certificate", "Windows did not take the certificate")
        if self.needed():
            raise StepFailed("certificate", "Windows did not take the certificate")
