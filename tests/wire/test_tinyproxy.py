"""The tunnel through a proxy that others wrote, with and without a login."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apps.wire.client import Client, Request, Tls
from apps.wire.errors import ProxyFailed
from tests.wire.servers import Authority, Seen, http_answer, http_site
from tests.wire.tinyproxy import connects, tinyproxy


async def echo(seen: Seen) -> bytes:
    return http_answer(200, seen.body)


@pytest.mark.parametrize("basic", [False, True])
async def test_through_a_real_proxy(authority: Authority, tmp_path: Path, basic: bool) -> None:
    context, _ = authority.context()
    with tinyproxy(tmp_path, basic=basic) as proxy:
        async with http_site(echo, context) as site:
            client = Client(proxy=proxy)
            request = Request("POST", site.url("/"), body=b"sent", tls=Tls(authority.pem))
            for _ in range(3):
                assert (await client.perform(request)).body == b"sent"
            assert site.connections == 1
            await client.close()
            asked = site.url("").removeprefix("https://")
        assert connects(tmp_path) == [asked]


async def test_a_real_proxy_says_that_the_password_is_wrong(tmp_path: Path) -> None:
    with tinyproxy(tmp_path, basic=True) as proxy:
        for wrong, code in (
            (replace(proxy, password="wrong"), "proxy_login_refused"),
            (replace(proxy, auth="none"), "proxy_wants_other_login"),
        ):
            client = Client(proxy=wrong)
            with pytest.raises(ProxyFailed) as failed:
                await client.perform(Request("GET", "https://mail.example.com/"))
            assert failed.value.code == code
            await client.close()
