"""The way to Exchange as an endpoint says it: a real proxy, old TLS, a gateway's headers."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from apps.exchange.errors import (
    CredentialsRefused,
    Forbidden,
    GatewayRefused,
    ProxyTrouble,
    TlsRefused,
)
from apps.exchange.ews.server import EwsServer
from apps.exchange.gateway import Gateway
from apps.exchange.interface import Credentials, Endpoint, Proof
from apps.wire.proxy import Proxy
from tests.exchange import answers
from tests.wire.servers import Authority, Seen, Site, http_answer, http_site
from tests.wire.tinyproxy import connects, tinyproxy

ANNA = Credentials("basic", "EXAMPLE\\anna", "secret")
LAB = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SAME = answers.response("GetFolder", answers.folder("A"), answers.folder("A"))
GATEWAY = Gateway((("X-Device-Id", "{eas_id}"), ("X-Phone", "{model} ({os_version})")), (403, 449))


@asynccontextmanager
async def exchange(
    authority: Authority, *, status: int = 200, old: ssl.TLSVersion | None = None
) -> AsyncIterator[tuple[EwsServer, Endpoint, Site]]:
    """An Exchange that answers every proof well, or with `status`; with `old` TLS only."""

    async def serve(seen: Seen) -> bytes:
        if not seen.body:  # who asks first what is offered
            return http_answer(401, b"", WWW_Authenticate="Basic")
        body = SAME if status == 200 else b""
        return http_answer(status, body, Content_Type="text/xml", WWW_Authenticate="Basic")

    context, _ = authority.context()
    if old is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = old
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    server = EwsServer("0.1.0")
    async with http_site(serve, context) as site:
        endpoint = Endpoint(site.url("/EWS/Exchange.asmx"), authority.pem, exceptions=LAB)
        try:
            yield server, endpoint, site
        finally:
            await server.close()


async def prove(server: EwsServer, endpoint: Endpoint, given: Credentials = ANNA) -> Proof:
    return await server.prove(endpoint, given, "anna@example.com", 5)


@pytest.mark.parametrize("basic", [False, True])
async def test_through_a_real_proxy(authority: Authority, tmp_path: Path, basic: bool) -> None:
    with tinyproxy(tmp_path, basic=basic) as proxy:
        async with exchange(authority) as (server, endpoint, site):
            through = replace(endpoint, proxy=proxy)
            for _ in range(3):
                assert await prove(server, through) == Proof("A")
            assert site.connections == 1
            # One without the proxy takes another connection.
            assert await prove(server, endpoint) == Proof("A")
            assert site.connections == 2
            if basic:
                wrong = replace(endpoint, proxy=replace(proxy, password="wrong"))
                with pytest.raises(ProxyTrouble):
                    await prove(server, wrong)
        assert len(set(connects(tmp_path))) == 1


async def test_a_proxy_in_the_private_network_is_the_administrators_choice() -> None:
    server = EwsServer("0.1.0")
    endpoint = Endpoint("https://mail.invalid/", exceptions=(), proxy=Proxy("127.0.0.1", 1))
    with pytest.raises(ProxyTrouble):
        await prove(server, endpoint)
    await server.close()


async def test_old_tls_is_for_who_was_opted_down(authority: Authority) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = ssl.TLSVersion.TLSv1
    async with exchange(authority, old=old) as (server, strict, site):
        with pytest.raises(TlsRefused):
            await prove(server, strict)
        lenient = replace(strict, tls_floor="1.0")
        assert await prove(server, lenient) == Proof("A")
        # The connection that is there now serves nobody who was promised better.
        with pytest.raises(TlsRefused):
            await prove(server, strict)
        assert site.connections == 1


async def test_a_gateway_hears_whose_device_it_is(authority: Authority) -> None:
    identity = (("eas_id", "ABC"), ("model", "iPhone"), ("os_version", "26.1"), ("uem_id", "u"))
    async with exchange(authority) as (server, endpoint, site):
        known = replace(ANNA, identity=identity)
        await prove(server, replace(endpoint, gateway=GATEWAY), known)
        for seen in site.requests:
            assert seen.headers["x-device-id"] == "ABC"
            assert seen.headers["x-phone"] == "iPhone (26.1)"
        asked = len(site.requests)
        # Half an id is none; and where there is no gateway nobody is told.
        await prove(
            server, replace(endpoint, gateway=GATEWAY), replace(ANNA, identity=identity[:2])
        )
        await prove(server, endpoint, known)
        told = [set(seen.headers) & {"x-device-id", "x-phone"} for seen in site.requests[asked:]]
        assert {"x-device-id"} in told and set() in told and {"x-device-id", "x-phone"} not in told


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("ABC\r\nAuthorization: Basic eDp5", "ABC??Authorization: Basic eDp5"),
        ("\x00\n", "??"),
        ("  A\u2028B\U0001f4f1 ", "A?B?"),
        ("x" * 5000, "x" * 200),
        ("{uem_id}", "{uem_id}"),
    ],
)
async def test_what_a_hostile_phone_calls_itself(
    authority: Authority, said: str, sent: str
) -> None:
    async with exchange(authority) as (server, endpoint, site):
        hostile = replace(ANNA, identity=(("eas_id", said), ("uem_id", "other")))
        await prove(server, replace(endpoint, gateway=GATEWAY), hostile)
        assert {seen.headers["x-device-id"] for seen in site.requests} == {sent}
        assert {seen.headers.get("authorization", "Basic") for seen in site.requests} != set()


async def test_refusals_of_a_gateway(authority: Authority) -> None:
    for status in (403, 449):
        async with exchange(authority, status=status) as (server, endpoint, _):
            with pytest.raises(GatewayRefused):
                await prove(server, replace(endpoint, gateway=GATEWAY))
    async with exchange(authority, status=403) as (server, endpoint, _):
        with pytest.raises(Forbidden):
            await prove(server, endpoint)
    async with exchange(authority, status=401) as (server, endpoint, _):
        with pytest.raises(CredentialsRefused):
            await prove(server, replace(endpoint, gateway=GATEWAY))
