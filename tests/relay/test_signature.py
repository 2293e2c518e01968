"""Hostile calls at a running relay: a clear refusal for each, and nothing is sent."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from apps.cns.channel import Channel, load_channel, make_channel
from apps.cns.client import CnsClient
from apps.cns.errors import CnsRefused
from tests.relay.conftest import Site

PATH = "/nws/notify/apns"
JSON = {"Content-Type": "application/json"}


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def body(site: Site, token: str) -> bytes:
    push = site.push(token)
    notification = {name: getattr(push, name) for name in push.__slots__}
    return json.dumps({"version": 1, "notifications": [notification]}).encode()


@pytest.fixture
def channel(site: Site) -> Channel:
    return load_channel(site.channel)


@pytest.fixture(autouse=True)
def nothing_is_sent(site: Site, token: str) -> Iterator[None]:
    before = site.apns.answers.total()
    yield
    assert site.apns.answers.total() == before


def post(site: Site, body: bytes, signature: str | None) -> tuple[int, str]:
    headers = JSON | ({"ENS-Signature": signature} if signature is not None else {})
    status, answer = site.process.post(body, headers)
    assert answer["status"] == status
    assert {"type", "title"} <= answer.keys()
    return status, answer["code"]


def claims(site: Site, sent: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "aud": site.relay.audience,
        "htm": "POST",
        "htu": PATH,
        "iat": int(time.time()),
        "nonce": uuid4().hex,
        "body": b64(sha256(sent).digest()),
    } | changes


def sign(channel: Channel, content: Any, **header: Any) -> str:
    protected = {"alg": "ES256", "x5t#S256": channel.thumbprint} | header
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    return jws.serialize_compact(protected, json.dumps(content), channel.key, registry=registry)


def test_unsigned(site: Site, body: bytes) -> None:
    assert post(site, body, None) == (401, "signature_missing")


@pytest.mark.parametrize(
    "signature", ["x", "a.b.c", "..", "a" * 10_000, "eyJhbGciOiJFUzI1NiJ9.e30.x", "W10.e30.x"]
)
def test_no_signature_at_all(site: Site, body: bytes, signature: str) -> None:
    assert post(site, body, signature) == (401, "signature_malformed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "https://another.example"}, "audience_mismatch"),
        ({"aud": None}, "audience_mismatch"),
        ({"htu": "/nws/notify/fcm"}, "request_mismatch"),
        ({"htm": "PUT"}, "request_mismatch"),
        ({"iat": int(time.time()) - 3600}, "clock_mismatch"),
        ({"iat": int(time.time()) + 3600}, "clock_mismatch"),
        ({"iat": 10**30}, "clock_mismatch"),
        ({"iat": "now"}, "signature_malformed"),
        ({"iat": True}, "signature_malformed"),
        ({"nonce": ""}, "signature_malformed"),
        ({"nonce": "n" * 65}, "signature_malformed"),
        ({"nonce": 5}, "signature_malformed"),
        ({"body": b64(sha256(b"other").digest())}, "body_mismatch"),
        ({"body": None}, "body_mismatch"),
    ],
)
def test_signed_for_something_else(
    site: Site, channel: Channel, body: bytes, changes: dict, code: str
) -> None:
    assert post(site, body, sign(channel, claims(site, body, **changes))) == (401, code)


@pytest.mark.parametrize("content", ["text", [], None, 5])
def test_claims_that_are_no_object(site: Site, channel: Channel, body: bytes, content: Any) -> None:
    assert post(site, body, sign(channel, content)) == (401, "signature_malformed")


def test_an_altered_body(site: Site, channel: Channel, body: bytes) -> None:
    signature = sign(channel, claims(site, body))
    assert post(site, body + b" ", signature) == (401, "body_mismatch")


def test_re_dated(site: Site, channel: Channel, body: bytes) -> None:
    """Claims replaced under an old signature."""
    old = sign(channel, claims(site, body, iat=int(time.time()) - 3600))
    head, _, signature = old.split(".")
    fresh = b64(json.dumps(claims(site, body)).encode())
    assert post(site, body, f"{head}.{fresh}.{signature}") == (401, "signature_invalid")


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": {"kty": "EC"}},
        {"crit": ["exp"], "exp": 1},
        {"x5c": ["AAAA"]},
        {"kid": "other"},
        {"b64": False},
        {"x5t#S256": 5},
        {"x5t#S256": "short"},
    ],
)
def test_header_members_that_have_no_business_there(
    site: Site, channel: Channel, body: bytes, header: dict
) -> None:
    head = b64(json.dumps({"alg": "ES256", "x5t#S256": channel.thumbprint} | header).encode())
    _, payload, signature = sign(channel, claims(site, body)).split(".")
    assert post(site, body, f"{head}.{payload}.{signature}") == (401, "signature_malformed")


def test_algorithm_none(site: Site, channel: Channel, body: bytes) -> None:
    head = b64(json.dumps({"alg": "none", "x5t#S256": channel.thumbprint}).encode())
    unsigned = f"{head}.{b64(json.dumps(claims(site, body)).encode())}."
    assert post(site, body, unsigned) == (401, "signature_malformed")


@pytest.mark.parametrize("secret", ["pem", "thumbprint"])
def test_the_public_key_as_an_hmac_secret(
    site: Site, channel: Channel, body: bytes, secret: str
) -> None:
    key = channel.key.as_pem(private=False) if secret == "pem" else channel.thumbprint.encode()
    head = b64(json.dumps({"alg": "HS256", "x5t#S256": channel.thumbprint}).encode())
    message = f"{head}.{b64(json.dumps(claims(site, body)).encode())}"
    forged = f"{message}.{b64(hmac.digest(key, message.encode(), 'sha256'))}"
    assert post(site, body, forged) == (401, "signature_malformed")


def test_an_unregistered_certificate(site: Site, body: bytes) -> None:
    unknown = load_channel(b"".join(make_channel("unknown")))
    assert post(site, body, sign(unknown, claims(site, body))) == (401, "certificate_unknown")


def test_another_key_under_a_registered_thumbprint(
    site: Site, channel: Channel, body: bytes
) -> None:
    forger = Channel(ECKey.generate_key("P-256"), channel.thumbprint)
    assert post(site, body, sign(forger, claims(site, body))) == (401, "signature_invalid")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, (415, "content_type_refused")),
        ("text/plain", (415, "content_type_refused")),
        ("application/x-www-form-urlencoded", (415, "content_type_refused")),
    ],
)
def test_another_content_type(
    site: Site, channel: Channel, body: bytes, content_type: str | None, expected: tuple
) -> None:
    headers = {"ENS-Signature": sign(channel, claims(site, body))}
    if content_type:
        headers["Content-Type"] = content_type
    status, answer = site.process.post(body, headers)
    assert (status, answer["code"]) == expected


def test_an_oversized_body_is_not_even_read(site: Site) -> None:
    """Announced only: an answer comes before the first byte of it is sent."""
    with socket.create_connection(("127.0.0.1", site.process.port), timeout=10) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {4 * 1024 * 1024 + 1}\r\n\r\n".encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_large" in answer or b"problem+json" in answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods(site: Site, method: str) -> None:
    status, answer = site.process.post(b"", {}, method=method)
    assert (status, answer["code"]) == (405, "method_not_allowed")


def batch(count: int = 1, **changes: Any) -> dict:
    return {"version": 1, "notifications": [{"id": str(uuid4())} for _ in range(count)]} | changes


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: b"", "body_malformed"),
        (lambda: b"{", "body_malformed"),
        (lambda: b"\xff\xfe", "body_malformed"),
        (lambda: b"[" * 100_000, "body_malformed"),
        (lambda: b"[]", "body_malformed"),
        (lambda: b'{"version": NaN}', "body_malformed"),
        (lambda: json.dumps(batch(0)).encode(), "body_malformed"),
        (lambda: json.dumps(batch(notifications={})).encode(), "body_malformed"),
        (lambda: json.dumps(batch(version=2)).encode(), "version_unsupported"),
        (lambda: json.dumps(batch(version=True)).encode(), "version_unsupported"),
        (lambda: json.dumps(batch(501)).encode(), "too_many_notifications"),
        (lambda: json.dumps(batch(notifications=[5])).encode(), "notification_id_malformed"),
        (lambda: json.dumps(batch(notifications=[{}])).encode(), "notification_id_malformed"),
        (
            lambda: json.dumps(batch(notifications=[{"id": str(uuid4()).upper()}])).encode(),
            "notification_id_malformed",
        ),
        (
            lambda: json.dumps(batch(notifications=batch()["notifications"] * 2)).encode(),
            "notification_id_repeated",
        ),
    ],
)
def test_signed_nonsense(
    site: Site, channel: Channel, make: Callable[[], bytes], code: str
) -> None:
    body = make()
    assert post(site, body, sign(channel, claims(site, body))) == (400, code)


async def test_a_revoked_deployment_is_refused_within_a_second(site: Site, token: str) -> None:
    key, certificate = make_channel("revoked")
    file = site.relay.home / "revoked.pem"
    file.write_bytes(certificate)
    site.relay.manage("relay_deployment", "add", "--name", "revoked", "--certificate", file)
    client = CnsClient(site.process.url, key + certificate)
    (result,) = await client.send("apns", [site.push(token)])
    assert (result.status, result.reason) == ("failed", "app_not_allowed")
    site.relay.manage("relay_deployment", "revoke", "--name", "revoked")
    await asyncio.sleep(1.1)
    with pytest.raises(CnsRefused) as refused:
        await client.send("apns", [site.push(token)])
    assert refused.value.code == "certificate_revoked"
    await client.close()
