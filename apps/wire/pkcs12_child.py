"""The other half of `pkcs12.py`, run as a program: opens one file and says what is in it.

Reads `{"p12": <base64>, "password": …}` and writes `{"key", "certificate", "others"}` in PEM, or
`{"error": "password"}`, or `{"error": "unreadable"}`.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

# What cryptography says of a readable file that its password doesn't open.
_SAYS_PASSWORD = "Invalid password"  # noqa: S105 - no password


def _contents(raw: bytes, password: str) -> dict[str, object]:
    try:
        # Some programs write an empty password, others none at all, for «no password».
        opened = pkcs12.load_pkcs12(raw, password.encode() or None)
    except ValueError as error:
        wrong = str(error).startswith(_SAYS_PASSWORD)
        return {"error": "password" if wrong else "unreadable"}
    certificate = opened.cert
    return {
        "key": opened.key
        and opened.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "certificate": certificate and certificate.certificate.public_bytes(Encoding.PEM).decode(),
        "others": [
            each.certificate.public_bytes(Encoding.PEM).decode() for each in opened.additional_certs
        ],
    }


def main() -> None:
    """One file in, one answer out."""
    asked = json.load(sys.stdin)
    try:
        found = _contents(b64decode(asked["p12"]), asked["password"])
    except Exception:  # noqa: BLE001 - whatever hostile bytes make of a parser; nobody reads traces
        found = {"error": "unreadable"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
