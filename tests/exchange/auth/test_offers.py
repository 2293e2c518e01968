from __future__ import annotations

import time

import pytest

from apps.exchange.auth import offers
from apps.exchange.errors import LoginImpossible
from apps.exchange.interface import Credentials

EXCHANGE = 'Negotiate, NTLM, Basic realm="mail.example.com"'
HYBRID = (
    'Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="a@*, Basic x",'
    ' token_types="app_asserted_user_v1", Negotiate,NTLM'
)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (EXCHANGE, {"negotiate", "ntlm", "basic"}),
        (HYBRID, {"bearer", "negotiate", "ntlm"}),
        ("NTLM TlRMTVNTUAACAAAA==", {"ntlm"}),
        ("bAsIc Realm=x", {"basic"}),
        ('Digest realm = "x", nonce = 1, Basic', {"digest", "basic"}),
        ('Basic realm="say \\", NTLM, \\" twice"', {"basic"}),
        ('Basic realm="never ends, NTLM', {"basic"}),
        ("", set()),
        (", ,,", set()),
        ("=, \x00, é", set()),
    ],
)
def test_schemes(header: str, found: set[str]) -> None:
    assert offers.schemes(header) == found


def test_a_header_without_end_costs_no_time() -> None:
    began = time.monotonic()
    for hostile in ('"' * 300_000, '\\"' * 150_000, "Basic," * 50_000, "a=" * 150_000):
        offers.schemes(hostile)
    assert time.monotonic() - began < 1


def test_tokens() -> None:
    assert offers.token("Negotiate, NTLM aGVsbG8=", "ntlm") == b"hello"
    assert offers.token("Negotiate, NTLM aGVsbG8=", "negotiate") == b""
    assert offers.token("Basic realm=x", "ntlm") is None
    with pytest.raises(ValueError, match="base64"):
        offers.token("NTLM hush!", "ntlm")


def given(kind: str) -> Credentials:
    return Credentials(kind, "anna", "pw")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("credentials", "offered", "chosen"),
    [
        (given("basic"), {"negotiate", "ntlm", "basic"}, ("basic", "negotiate", "ntlm")),
        (given("basic"), {"negotiate", "ntlm"}, ("negotiate", "ntlm")),
        (given("basic"), {"ntlm", "bearer"}, ("ntlm",)),
        (given("ntlm"), {"negotiate", "ntlm", "basic"}, ("ntlm",)),
        (given("negotiate"), {"negotiate", "ntlm", "basic"}, ("negotiate",)),
        (Credentials("oauth", token="t", expires_at=1), {"bearer", "basic"}, ("bearer",)),
        (
            Credentials("certificate", "anna", "pw", certificate="c", expires_at=1),
            {"ntlm", "basic"},
            ("basic",),
        ),
    ],
)
def test_choice(credentials: Credentials, offered: set[str], chosen: tuple[str, ...]) -> None:
    assert offers.choose(credentials, offered) == chosen


@pytest.mark.parametrize(
    ("kind", "offered"),
    [("basic", "digest"), ("ntlm", "negotiate"), ("negotiate", "ntlm"), ("basic", "")],
)
def test_nothing_fits(kind: str, offered: str) -> None:
    with pytest.raises(LoginImpossible) as caught:
        offers.choose(given(kind), {offered})
    assert caught.value.code == "login_not_offered"
