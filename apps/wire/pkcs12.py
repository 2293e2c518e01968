"""Certificates with their keys as `.p12` files (PKCS#12, RFC 7292), which strangers may have made.

A file says how many rounds of key derivation open it, also for what lies encrypted within what is
encrypted, and OpenSSL runs as many: two billion take an hour, which nothing can interrupt but the
end of its process. So a process of its own opens the file, and has seconds for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

# Honest files take some 0.2 s, most of which is the start of Python.
SECONDS: Final = 5.0
_AT_ONCE: Final = 2
# One more may wait. A web process has eight threads or so, which Exchange calls on, too.
_IN_LINE: Final = _AT_ONCE + 1
_MOST_OUTPUT: Final = 256 * 1024
# An RSA key of 4,096 bits in PEM; verifying signatures by a much longer one takes seconds.
_LONGEST_KEY: Final = 3600
_CHILD: Final = Path(__file__).with_name("pkcs12_child.py")
# Of our environment nothing else: it may hold secrets, which a parser of hostile files needn't see.
_KEPT: Final = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")

_turns = threading.BoundedSemaphore(_AT_ONCE)
_line = threading.BoundedSemaphore(_IN_LINE)


class Pkcs12Unreadable(Exception):
    """`code`: `password_wrong`, `p12_unreadable`, or `busy`: too many are being opened just now."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Pkcs12:
    """What a file holds. `certificate` is the one of the key, `others` mostly its issuers."""

    key: PrivateKeyTypes | None = field(repr=False)
    certificate: x509.Certificate | None
    others: tuple[x509.Certificate, ...]


def open_pkcs12(raw: bytes, password: str, seconds: float = SECONDS) -> Pkcs12:
    """Open a file; blocks for at most twice `seconds`.

    Raises:
        Pkcs12Unreadable: see there; a file that takes too long is `p12_unreadable`.
    """
    if not _line.acquire(blocking=False):
        raise Pkcs12Unreadable("busy")
    try:
        found = _in_turn(raw, password, seconds)
    finally:
        _line.release()
    if found.get("error") == "password":
        raise Pkcs12Unreadable("password_wrong")
    try:
        return Pkcs12(
            _key(found["key"]),
            x509.load_pem_x509_certificate(found["certificate"].encode())
            if found["certificate"]
            else None,
            tuple(x509.load_pem_x509_certificate(each.encode()) for each in found["others"]),
        )
    except Exception:  # noqa: BLE001 - a malformed certificate raises whatever, quoting itself
        raise Pkcs12Unreadable("p12_unreadable") from None


def _in_turn(raw: bytes, password: str, seconds: float) -> dict[str, Any]:
    if not _turns.acquire(timeout=seconds):
        raise Pkcs12Unreadable("busy")
    try:
        return _ask(raw, password, seconds)
    finally:
        _turns.release()


def _ask(raw: bytes, password: str, seconds: float) -> dict[str, Any]:
    asked = json.dumps({"p12": b64encode(raw).decode(), "password": password})
    try:
        done = subprocess.run(  # noqa: S603 - our own program, and the file goes to its stdin
            [sys.executable, "-I", str(_CHILD)],
            input=asked.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            timeout=seconds,
            check=True,
            # No window flashes up where the parent has none.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        found: dict[str, Any] = json.loads(done.stdout[:_MOST_OUTPUT])
    except (OSError, subprocess.SubprocessError, ValueError):
        raise Pkcs12Unreadable("p12_unreadable") from None
    return found


def _key(pem: str | None) -> PrivateKeyTypes | None:
    if pem is None:
        return None
    if len(pem) > _LONGEST_KEY:
        raise ValueError("too long a key")
    # The child has checked that its parts belong together, which takes 35 ms.
    return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
