from __future__ import annotations

import json
import secrets
import traceback
from base64 import urlsafe_b64encode

import pytest

from apps.exchange.interface import Credentials, Endpoint, Item

PEM = "-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----\n"
OF_EVERY_TYPE = [
    Credentials("basic", "EXAMPLE\\ännä", 'p"w: \U0001f511'),
    Credentials("ntlm", "EXAMPLE\\anna", "pw"),
    Credentials("negotiate", "anna@EXAMPLE.COM", "pw"),
    Credentials("oauth", token="a.b.c", expires_at=1_800_000_000),
    Credentials("certificate", certificate=PEM, expires_at=1_800_000_000),
    Credentials("certificate", "anna", "pw", certificate=PEM, expires_at=1),
    Credentials("basic", "anna", "pw", identity=(("eas_id", "ABC"), ("model", "x"))),
]


@pytest.mark.parametrize("credentials", OF_EVERY_TYPE, ids=lambda given: given.type)
def test_credentials_survive_the_trip(credentials: Credentials) -> None:
    assert Credentials.from_bytes(credentials.to_bytes()) == credentials
    assert json.loads(credentials.to_bytes())["type"] == credentials.type


def test_what_is_sealed_in_urls_today_still_opens() -> None:
    sealed = '{"type":"basic","username":"EXAMPLE\\\\ännä","password":"p\\"w"}'.encode()
    opened = Credentials.from_bytes(sealed)
    assert opened == Credentials("basic", "EXAMPLE\\ännä", 'p"w')
    assert opened.to_bytes() == sealed


def _jwt(**claims: object) -> str:
    body = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.{secrets.token_urlsafe(9)}"


def test_accounts() -> None:
    def of_token(token: str) -> str:
        return Credentials("oauth", token=token, expires_at=1).account

    anna, ben = {"iss": "x", "oid": "anna"}, {"iss": "x", "oid": "ben"}
    assert of_token(_jwt(**anna)) == of_token(_jwt(**anna, sub="new", exp=7))
    opaque = ["hush", "hush.!.x", "hush.e30.x", _jwt(iss="x", oid=7), _jwt(sub=[])]
    names = {of_token(token) for token in [_jwt(**anna), _jwt(**ben), *opaque]}
    assert len(names) == 2 + len(opaque)
    certificate = Credentials("certificate", certificate=PEM, expires_at=1)
    assert certificate.account not in names
    assert not any("hush" in name for name in [*names, certificate.account])
    assert Credentials("certificate", "anna", "pw", certificate=PEM, expires_at=1).account == "anna"
    assert OF_EVERY_TYPE[0].account == "EXAMPLE\\ännä"


def test_only_passwords_lock_accounts() -> None:
    locking = {given.type for given in OF_EVERY_TYPE if given.has_password}
    assert locking == {"basic", "ntlm", "negotiate", "certificate"}
    assert not Credentials("certificate", certificate=PEM, expires_at=1).has_password


def test_expiry() -> None:
    token = Credentials("oauth", token="x", expires_at=100)
    assert [token.expired(now) for now in (99.9, 100.0, 101.0)] == [False, True, True]
    assert not Credentials("basic", "anna", "pw").expired(1e12)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hush",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"type":"basic","username":"hush"}',
        b'{"type":"basic","username":"hush","password":7}',
        b'{"type":"digest","username":"hush","password":"hush"}',
        b'{"type":["basic"],"username":"hush","password":"hush"}',
        b'{"type":"oauth","token":"hush"}',
        b'{"type":"oauth","token":"hush","expires_at":"1"}',
        b'{"type":"oauth","token":"hush","expires_at":true}',
        b'{"type":"oauth","token":"hush","expires_at":1,"username":"hush"}',
        b'{"type":"certificate","certificate":["hush"],"expires_at":1}',
        b'{"type":"basic","username":"hush","password":"hush","identity":[["hush"]]}',
        b'{"type":"basic","username":"hush","password":"hush","identity":[["hush",1]]}',
        b'{"type":"basic","username":"hush","password":"hush","identity":{"hush":"x"}}',
        b'{"type":"basic","username":"hush","password":"hush","more":1}',
        b"[" * 100_000,
    ],
)
def test_malformed_credentials(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^credentials malformed$") as caught:
        Credentials.from_bytes(raw)
    lines = traceback.format_exception_only(caught.value)
    assert "hush" not in "".join(lines)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_half_a_surrogate_pair_is_no_crash() -> None:
    raw = Credentials("basic", "anna", "a\ud800").to_bytes()
    assert Credentials.from_bytes(raw).password == "a?"


def test_reprs_tell_nothing() -> None:
    item = Item("id", "message", "hush", "hush", "hush", None, False, "folder")
    every = Credentials(
        "certificate", "hush", "hush", "hush", "hush", expires_at=1, identity=(("hush", "hush"),)
    )
    shown = repr([every, Endpoint("https://x/", "hush"), item])
    assert "hush" not in shown
