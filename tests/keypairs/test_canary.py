"""No secret stands in the database files of a real deployment, whichever way it is written."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from tests.keypairs.devices import claims, encrypt
from tests.vault.processes import SETUP, migrate, run

PREPARE = (
    SETUP
    + """
import json
from apps.keypairs.service import current_public_key, rotate
from apps.tenants.groups import create_group
og = create_group("Example")
rotate()
print(json.dumps(current_public_key(og).jwk))
"""
)

USE = (
    SETUP
    + """
import json, uuid
from django.db import transaction
from apps.keypairs import rsa, sealing, service
from apps.keypairs.models import KeyPair, SealedCredential
from apps.tenants.models import OrganizationGroup
from apps.vault import keys
from apps.vault.lookup import lookup_hmac
from apps.vault.models import VaultKey

with transaction.atomic():
    sent = service.open_jwe(OrganizationGroup.objects.get(), COMPACT)
short = json.dumps(sent["credentials"]).encode()
for secret in (short, short * 100):
    number = uuid.uuid4()
    creds = sealing.seal(number, secret, room=1900)
    assert sealing.unseal(number, creds) == secret
lookup_hmac("mailbox", sent["email"])
secrets = [keys.load(kind)[1].hex() for kind in VaultKey.Kind]
for pair in KeyPair.objects.all():
    numbers = rsa.load(pair).private_key.private_numbers()
    for value in (numbers.p, numbers.q, numbers.d):
        secrets.append(value.to_bytes(256, "big").lstrip(bytes(1)).hex())
for row in SealedCredential.objects.all():
    secrets.append(sealing.unwrap(row.wrapped_key, table="keypairs_sealedcredential",
        row=str(row.subscription_id), purpose="sealing").hex())
print(json.dumps(secrets))
"""
)

MARKS = ("canary-password-7Q", "canary-anna@example.com", "canary-jti-20261121")


def spellings(secret: bytes) -> set[bytes]:
    """Plain, hex, base64 at each of the three offsets, UTF-16 and URL-encoded."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for offset in range(3):
        inner = b64encode(bytes(offset) + secret)[4 if offset else 0 :].rstrip(b"=")[:-1]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    try:
        text = secret.decode("ascii")
    except UnicodeDecodeError:
        return found
    return found | {text.encode("utf-16-le"), text.encode("utf-16-be"), quote(text).encode()}


def leaks(folder: Path, secrets: list[bytes]) -> list[tuple[str, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "ens.sqlite3" for path in files)
    return [
        (path.name, spelling)
        for path in files
        for secret in secrets
        for spelling in spellings(secret)
        if spelling in path.read_bytes()
    ]


def test_no_secret_stands_in_the_database_files(tmp_path: Path) -> None:
    migrate(tmp_path)
    jwk = json.loads(run(tmp_path, "-c", PREPARE))
    password, email, jti = MARKS
    sent = claims(jti=jti, email=email, credentials={"username": email, "password": password})
    keys = json.loads(run(tmp_path, "-c", USE.replace("COMPACT", repr(encrypt(jwk, sent)))))
    assert len(keys) == 2 + 2 * 3 + 2
    secrets = [mark.encode() for mark in MARKS] + [bytes.fromhex(key) for key in keys]
    assert leaks(tmp_path, secrets) == []


def test_the_search_finds_each_spelling(tmp_path: Path) -> None:
    (tmp_path / "ens.sqlite3").write_bytes(b"")
    secret = MARKS[0].encode()
    for number, spelled in enumerate(
        [secret, secret.hex().encode(), b64encode(b"ab" + secret + b"c"),
         b64encode(b"x" + secret), MARKS[0].encode("utf-16-le")]
    ):  # fmt: skip
        leak = tmp_path / f"{number}.bin"
        leak.write_bytes(b"before " + spelled + b" after")
        assert leaks(tmp_path, [secret])
        leak.unlink()
    assert not leaks(tmp_path, [secret])
