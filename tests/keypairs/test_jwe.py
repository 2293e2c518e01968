from __future__ import annotations

import json
import os
import string
import tracemalloc
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, PKCS1v15
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe as library
from joserfc.jwk import RSAKey

from apps.keypairs import jwe
from apps.keypairs.jwe import JweRefused
from tests.keypairs.devices import b64, claims, encrypt

HEADER = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "k"}
KEY = RSAKey.generate_key(2048)
JWK: dict[str, str] = KEY.as_dict(kid="k")  # type: ignore[assignment]


def outcome(compact: str) -> str:
    """The code with which form, header or content are refused, or `opened`."""
    try:
        assert jwe.key_id(compact) == "k"
        jwe.decrypt(compact, KEY)
    except JweRefused as error:
        assert str(error) == error.code
        assert error.__cause__ is None
        return error.code
    return "opened"


def with_part(compact: str, part: int, value: str) -> str:
    parts = compact.split(".")
    parts[part] = value
    return ".".join(parts)


# --- header ----------------------------------------------------------------------------------


def test_the_header_of_the_guide_and_its_two_extras() -> None:
    assert outcome(encrypt(JWK, claims())) == "opened"
    assert outcome(encrypt(JWK, claims(), HEADER | {"typ": "JWE", "cty": "json"})) == "opened"


def test_what_another_library_makes_opens() -> None:
    compact = library.encrypt_compact(
        HEADER, json.dumps(claims()), KEY, algorithms=["RSA-OAEP-256", "A256GCM"]
    )
    assert outcome(compact) == "opened"


@pytest.mark.parametrize(
    "more",
    [
        {"zip": "DEF"},
        {"jwk": {"kty": "RSA"}},
        {"crit": []},
        {"crit": ["kid"]},
        {"jku": "https://evil.example"},
        {"x5u": "https://evil.example"},
        {"x5c": []},
        {"x5t": "x"},
        {"p2c": 1},
        {"epk": {}},
        {"b64": False},
        {"": ""},
        {"ALG": "none"},
        {"alg": "RSA-OAEP"},
        {"alg": "RSA1_5"},
        {"alg": "dir"},
        {"alg": "none"},
        {"alg": "rsa-oaep-256"},
        {"enc": "A128GCM"},
        {"enc": "A128CBC-HS256"},
        {"enc": "A256GCM "},
    ],
    ids=str,
)
def test_forbidden_headers(more: dict[str, Any]) -> None:
    assert outcome(encrypt(JWK, claims(), HEADER | more)) == "jwe_header_forbidden"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'\xef\xbb\xbf{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k"} x',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","alg":"RSA1_5","enc":"A256GCM","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","\\u0061lg":"RSA-OAEP-256","enc":"A256GCM","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM"}',
        b'{"enc":"A256GCM","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":1}',
        b'{"alg":["RSA-OAEP-256"],"enc":"A256GCM","kid":"k"}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k","typ":NaN}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k","typ":null}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"\\ud800"}',
        b'{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"\\u0000"}',
        b"[" * 700,
    ],
)
def test_malformed_headers(header: bytes) -> None:
    assert outcome(encrypt(JWK, claims(), header)) == "jwe_malformed"


def test_a_header_has_one_spelling_in_base64() -> None:
    content = json.dumps(HEADER).encode()
    while len(content) % 3 != 1:  # so that the last character has four bits to spare
        content += b" "
    compact = encrypt(JWK, claims(), content)
    protected = compact.split(".")[0]
    assert outcome(compact) == "opened"
    for other in set(string.ascii_letters) - {protected[-1]}:
        assert outcome(with_part(compact, 0, protected[:-1] + other)) == "jwe_malformed"


# --- form ------------------------------------------------------------------------------------


def test_size_is_capped_before_anything_is_decoded() -> None:
    fits = encrypt(JWK, claims(pad="x" * 17800))
    assert len(fits) <= jwe.MAX_CHARACTERS
    assert outcome(fits) == "opened"
    assert outcome(encrypt(JWK, claims(pad="x" * 18200))) == "jwe_malformed"
    huge = "[" * 50_000_000
    tracemalloc.start()
    try:
        assert outcome(huge) == "jwe_malformed"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_forms_that_are_not_compact() -> None:
    compact = encrypt(JWK, claims())
    parts = compact.split(".")
    for other in (
        "",
        ".",
        "....",
        compact + ".",
        compact + "\n",
        " " + compact,
        compact + "=",
        ".".join(parts[:4]),
        ".".join([*parts, parts[4]]),
        compact.replace(".", " "),
        json.dumps({"protected": parts[0], "ciphertext": parts[3]}),
        with_part(compact, 1, ""),
        with_part(compact, 2, parts[2] + "AAAA"),
        with_part(compact, 2, parts[2][:-4]),
        with_part(compact, 4, parts[4][:16]),
        with_part(compact, 4, ""),
        with_part(compact, 3, ""),
        with_part(compact, 3, parts[3] + "+/"),
        with_part(compact, 3, parts[3] + "é"),
        with_part(compact, 3, parts[3] + "\ud800"),
    ):
        assert outcome(other) == "jwe_malformed"


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert outcome(text) == "jwe_malformed"


# --- decryption: one code whatever went wrong ---------------------------------------------------


def test_every_failed_decryption_looks_the_same() -> None:
    compact = encrypt(JWK, claims())
    parts = compact.split(".")
    stranger = RSAKey.generate_key(2048).as_dict(kid="k")
    sha1 = OAEP(MGF1(hashes.SHA1()), hashes.SHA1(), None)
    failing = [
        encrypt(stranger, claims()),  # type: ignore[arg-type]
        encrypt(JWK, claims(), padding=PKCS1v15()),
        encrypt(JWK, claims(), padding=sha1),
        encrypt(JWK, claims(), cek=os.urandom(16)),
        with_part(compact, 1, "AAAA"),
        with_part(compact, 1, "A"),
        with_part(compact, 1, b64(b"\xff" * 256)),
        with_part(compact, 1, b64(b"\x00" * 256)),
        with_part(compact, 1, b64(os.urandom(257))),
        with_part(compact, 2, b64(os.urandom(12))),
        with_part(compact, 3, parts[3][:-4]),
        with_part(compact, 3, parts[3] + "AAAA"),
        with_part(compact, 4, b64(os.urandom(16))),
        with_part(compact, 0, b64(json.dumps(HEADER | {"typ": "other"}).encode())),
    ]
    assert {outcome(compact) for compact in failing} == {"jwe_not_opened"}


# --- plaintext -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff",
        b"[" * 8000,
        b'{"a":' * 1500,
        b'[{"iat":1,"jti":"12345678"}]',
        b'{"iat":1,"iat":2,"jti":"12345678"}',
        b'{"iat":1,"jti":"12345678","a":{"b":1,"b":1}}',
        b'{"iat":1,"jti":"12345678","a":"\\ud800"}',
        b'{"iat":1,"jti":"12345678","a":["\\u0000"]}',
        b'{"iat":1,"jti":"12345678","a":{"\\u0000":1}}',
        b'{"iat":1,"jti":"12345678","a":Infinity}',
        b'{"iat":' + b"9" * 5000 + b',"jti":"12345678"}',
    ],
)
def test_malformed_plaintexts(plaintext: bytes) -> None:
    assert outcome(encrypt(JWK, plaintext)) == "jwe_malformed"


@pytest.mark.parametrize(
    "more",
    [
        {"iat": None},
        {"iat": True},
        {"iat": 1.0},
        {"iat": "1"},
        {"jti": None},
        {"jti": 12345678},
        {"jti": "1234567"},
        {"jti": "x" * 129},
        {"jti": ["12345678"]},
    ],
    ids=str,
)
def test_id_and_time_have_their_types(more: dict[str, Any]) -> None:
    assert outcome(encrypt(JWK, claims() | more)) == "jwe_malformed"
    (name,) = more
    without = {key: value for key, value in claims().items() if key != name}
    assert outcome(encrypt(JWK, without)) == "jwe_malformed"


@pytest.mark.parametrize("jti", ["12345678", "x" * 128, "ä" * 8, "\\u0000 as text"])
def test_ids_of_every_kind(jti: str) -> None:
    opened = jwe.decrypt(encrypt(JWK, claims(jti=jti, iat=7)), KEY)
    assert (opened.jti, opened.iat) == (jti, 7)


def test_what_was_opened_has_no_telling_repr() -> None:
    opened = jwe.decrypt(encrypt(JWK, claims(password="correct horse")), KEY)
    assert opened.content["password"] == "correct horse"
    assert "horse" not in repr(opened)


def test_padded_base64_is_not_base64url() -> None:
    compact = encrypt(JWK, claims())
    padded = urlsafe_b64encode(json.dumps(HEADER).encode() + b" ").decode()
    assert outcome(with_part(compact, 0, padded + "=")) == "jwe_malformed"
