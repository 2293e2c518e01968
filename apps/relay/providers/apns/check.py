"""Whether an iOS app's credentials are fit, before they are sealed."""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from apps.relay.providers import Checked, CredentialsUnfit
from apps.relay.providers.apns.credentials import pack_key
from apps.relay.providers.apns.token import SigningKey

_APPLE_ID = re.compile(r"[A-Z0-9]{10}")


def check_key(p8: bytes, key_id: str, team_id: str) -> Checked:
    """Apple's `AuthKey_<key id>.p8` with its two ids.

    Raises:
        CredentialsUnfit: key_id_malformed, team_id_malformed, key_unreadable (no private key in
            PEM without a password), key_not_p256.
    """
    if not _APPLE_ID.fullmatch(key_id):
        raise CredentialsUnfit("key_id_malformed")
    if not _APPLE_ID.fullmatch(team_id):
        raise CredentialsUnfit("team_id_malformed")
    try:
        key = load_pem_private_key(p8, password=None)
    except (ValueError, TypeError):
        raise CredentialsUnfit("key_unreadable") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise CredentialsUnfit("key_not_p256")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    packed = pack_key(SigningKey(key_id, team_id, pem))
    return Checked(packed, None, {"kind": "token", "key_id": key_id, "team_id": team_id})
