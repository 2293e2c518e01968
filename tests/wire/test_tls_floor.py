"""Old TLS: real servers that speak TLS 1.0 or 1.1 and nothing newer, as an old Exchange does."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from apps.wire.client import Client, Request, Tls, TlsFloor
from apps.wire.errors import TlsFailed
from tests.wire.servers import Authority, Seen, Site, http_answer, http_site

OLD = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2}


async def echo(_seen: Seen) -> bytes:
    return http_answer(200, b"ok")


@asynccontextmanager
async def server_of(version: TlsFloor, authority: Authority) -> AsyncIterator[Site]:
    context, _ = authority.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = OLD[version]
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    async with http_site(echo, context) as site:
        yield site


@pytest.mark.parametrize(
    ("speaks", "floor", "agreed"),
    [
        ("1.0", "1.0", True),
        ("1.0", "1.1", False),
        ("1.0", "1.2", False),
        ("1.1", "1.0", True),
        ("1.1", "1.1", True),
        ("1.1", "1.2", False),
        ("1.2", "1.0", True),
        ("1.2", "1.2", True),
    ],
)
async def test_the_oldest_version_that_will_do(
    authority: Authority, speaks: TlsFloor, floor: TlsFloor, agreed: bool
) -> None:
    client = Client()
    async with server_of(speaks, authority) as site:
        request = Request("GET", site.url("/"), tls=Tls(authority.pem, floor=floor))
        if agreed:
            assert (await client.perform(request)).body == b"ok"
        else:
            with pytest.raises(TlsFailed):
                await client.perform(request)
            assert site.requests == []
    await client.close()


async def test_a_connection_of_old_tls_serves_no_stricter_request(authority: Authority) -> None:
    client = Client()
    async with server_of("1.0", authority) as site:
        lenient = Request("GET", site.url("/"), tls=Tls(authority.pem, floor="1.0"))
        assert (await client.perform(lenient)).status == 200
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", site.url("/"), tls=Tls(authority.pem)))
        assert (await client.perform(lenient)).status == 200
        # Only the first one's was ever made, and the third request found it.
        assert (site.connections, len(site.requests)) == (1, 2)
    await client.close()


async def test_an_old_server_still_has_to_be_trusted(authority: Authority) -> None:
    client = Client()
    async with server_of("1.0", authority) as site:
        with pytest.raises(TlsFailed, match="tls_untrusted"):
            await client.perform(Request("GET", site.url("/"), tls=Tls(floor="1.0")))
    await client.close()
