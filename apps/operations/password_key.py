"""Keys from passwords, for files that leave the house: `config.xml` and backups.

Whoever writes such a file chooses the cost of reading it, so the cost is one of two: neither cheap
to guess, nor a way to fill memory.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from typing import Any, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.contrib.auth import password_validation as passwords
from django.core.exceptions import ValidationError

N: Final = 2**17  # 128 MiB and a third of a second for each guess
N_READ: Final = (2**17, 2**18)
R: Final = 8
P: Final = 1
SALT_BYTES: Final = 32
CHECK_BYTES: Final = 16
PASSWORD_LENGTH: Final = 12
_LEAST_CHARACTERS: Final = 5


class PasswordWeak(Exception):
    """A password under which no file may leave the house; the text says what is wrong with it."""


def check_password(password: str, name: str = "") -> None:
    """Refuse a password that is short, common, monotonous or mostly `name`.

    Raises:
        PasswordWeak: it is.
    """
    validators: list[Any] = [
        passwords.MinimumLengthValidator(PASSWORD_LENGTH),
        passwords.CommonPasswordValidator(),
        passwords.NumericPasswordValidator(),
    ]
    try:
        passwords.validate_password(password, password_validators=validators)
    except ValidationError as error:
        raise PasswordWeak(" ".join(error.messages)) from None
    if len(set(password)) < _LEAST_CHARACTERS:
        raise PasswordWeak("This password repeats very few characters.")
    plain = password.lower()
    if len(name) >= 4 and name.lower() in plain and len(password) < len(name) + 8:
        raise PasswordWeak("This password is mostly the group's name.")


def derive(password: str, salt: bytes, n: int, label: str) -> tuple[bytes, bytes]:
    """A key of 32 bytes and a check value: the second tells a wrong password from a changed file.

    It costs a guesser exactly what trying to decrypt would. `label` names the kind of file.
    """
    normal = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    derived = Scrypt(salt=salt, length=64, n=n, r=R, p=P).derive(normal)
    check = hmac.digest(derived[32:], label.encode("ascii"), hashlib.sha256)[:CHECK_BYTES]
    return derived[:32], check
