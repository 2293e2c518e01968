"""Where trusted certificate authorities come from: the system's, certifi's, and private ones."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import certifi
import pycurl

# Debian and Alpine; RHEL and Fedora; SUSE; macOS.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_HASHED = ("/etc/ssl/certs", "/etc/pki/ca-trust/extracted/pem/directory-hash")
_HASH_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")

CurlOptions = tuple[tuple[int, str | bytes | int], ...]


@cache
def trust_options(ca_pem: str) -> CurlOptions:
    """Curl options that trust the system's CAs and those in `ca_pem` (PEM, may be empty).

    OpenSSL's own default paths are no use: the wheel's point into the machine that built it.
    """
    private: CurlOptions = ((pycurl.CAINFO_BLOB, ca_pem.encode()),) if ca_pem else ()
    if sys.platform == "win32":
        return ((pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA), *private)
    bundle = next((path for path in _BUNDLES if Path(path).is_file()), certifi.where())
    if not ca_pem:
        # A file, not a blob: libcurl parses a file once and keeps the result.
        return ((pycurl.CAINFO, bundle),)
    hashed = next((path for path in _HASHED if _is_hashed(Path(path))), None)
    if hashed:
        # The blob displaces CAINFO but not CAPATH, from which OpenSSL reads only what it needs.
        return ((pycurl.CAPATH, hashed), *private)
    return ((pycurl.CAINFO_BLOB, Path(bundle).read_bytes() + b"\n" + ca_pem.encode()),)


def _is_hashed(folder: Path) -> bool:
    return folder.is_dir() and any(_HASH_NAME.fullmatch(entry.name) for entry in folder.iterdir())
