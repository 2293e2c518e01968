"""RSA key pairs: made, wrapped for the database, and loaded to open a JWE."""

from __future__ import annotations

import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from joserfc.jwk import RSAKey

from apps.keypairs.models import KeyPair
from apps.vault.wrapping import UnwrapFailed, unwrap, wrap

_TABLE = KeyPair._meta.db_table
_PURPOSE = "private"


def generate(bits: int) -> dict[str, Any]:
    """Make a key pair: `kid`, `bits`, `public_jwk` and `wrapped_private` of a `KeyPair`.

    Takes 40 ms of CPU for 2048 bits and a second or more for 4096: never while anyone waits.

    Raises:
        MasterKeyInvalid: there is no usable master key file.
    """
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    # Lower-case hex: some databases compare text without regard to case.
    kid = secrets.token_hex(16)
    blob = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {
        "kid": kid,
        "bits": bits,
        "public_jwk": RSAKey.import_key(private.public_key()).as_dict(
            kid=kid, alg="RSA-OAEP-256", use="enc"
        ),
        "wrapped_private": wrap(blob, table=_TABLE, row=kid, purpose=_PURPOSE),
    }


def load(pair: KeyPair) -> RSAKey:
    """The private key of a pair, for a JOSE library.

    OpenSSL's check of the primes is left out: it takes 10,000 times as long as loading, and the
    vault has just authenticated the blob as the one that we made.

    Raises:
        UnwrapFailed: the row is damaged, or the master key that wrapped it is gone.
        MasterKeyInvalid: there is no usable master key file.
    """
    blob = unwrap(pair.wrapped_private, table=_TABLE, row=pair.kid, purpose=_PURPOSE)
    private = load_der_private_key(blob, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise UnwrapFailed("not an RSA key")
    # With the public JWK as its face, the library never exports the private numbers to make one.
    return RSAKey(private, pair.public_jwk)
