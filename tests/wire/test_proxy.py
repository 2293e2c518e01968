"""Through a proxy that wants to know who we are: a real acceptor of NTLM and Negotiate."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any

import pytest

from apps.wire.client import Client, Request, Tls
from apps.wire.errors import ConnectFailed, DeadlineExceeded, ProxyFailed, TlsFailed, WireError
from apps.wire.proxy import Proxy, ProxyAuth
from tests.wire.proxies import ACCOUNTS, PASSWORD, USER, connect_proxy
from tests.wire.servers import Authority, Seen, http_answer, http_site

# No name server knows it: only the proxy looks it up.
HOST = "cns.corp.invalid"


@pytest.fixture(autouse=True)
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "accounts"
    file.write_text(ACCOUNTS)
    monkeypatch.setenv("NTLM_USER_FILE", str(file))


async def echo(seen: Seen) -> bytes:
    return http_answer(200, seen.body)


def proxy_at(port: int, auth: str, user: str = USER, password: str = PASSWORD) -> Proxy:
    kind: Any = auth
    return Proxy("127.0.0.1", port, kind, user, password)


@pytest.mark.parametrize("auth", ["none", "basic", "ntlm", "negotiate"])
async def test_tls_goes_through_from_end_to_end_and_is_kept(
    authority: Authority, auth: str
) -> None:
    context, _ = authority.context(HOST)
    async with http_site(echo, context) as site, connect_proxy(auth, site.port) as proxy:
        client = Client(proxy=proxy_at(proxy.port, auth))
        request = Request("POST", f"https://{HOST}/x", body=b"sent", tls=Tls(authority.pem))
        for _ in range(3):
            assert (await client.perform(request)).body == b"sent"
        assert proxy.targets == [f"{HOST}:443"]
        assert (site.connections, len(site.requests)) == (1, 3)
        # Two NTLM rounds; a known password or none needs no question.
        assert proxy.refused == (1 if auth in ("ntlm", "negotiate") else 0)
        calls = (client.perform(request) for _ in range(10))
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
        made = len(proxy.targets)
        assert made <= 10
        for _ in range(5):
            await client.perform(request)
        assert len(proxy.targets) == made
        await client.close()
    assert all(b"Secret-of-the-proxy" not in head for head in proxy.heads)
    assert all("proxy-authorization" not in seen.headers for seen in site.requests)


async def test_plain_http_and_another_port_go_through_a_tunnel_too() -> None:
    async with http_site(echo) as site, connect_proxy("none", site.port) as proxy:
        client = Client(proxy=proxy_at(proxy.port, "none"))
        request = Request("POST", "http://[2001:db8::1]:8080/", body=b"x", schemes=("http",))
        assert (await client.perform(request)).body == b"x"
        await client.close()
    assert proxy.targets == ["[2001:db8::1]:8080"]


async def test_a_connection_that_was_closed_is_made_anew() -> None:
    async def leave(_seen: Seen) -> bytes:
        return http_answer(200, Connection="close")

    async with http_site(leave) as site, connect_proxy("ntlm", site.port) as proxy:
        client = Client(proxy=proxy_at(proxy.port, "ntlm"))
        request = Request("POST", "http://cns/", schemes=("http",))
        for number in range(3):
            await client.perform(request)
            assert len(proxy.targets) == number + 1
        await client.close()


@pytest.mark.parametrize(
    ("auth", "wanted", "user", "password", "code"),
    [
        ("none", "basic", "", "", "proxy_wants_other_login"),
        ("basic", "ntlm", USER, PASSWORD, "proxy_wants_other_login"),
        ("ntlm", "negotiate", USER, PASSWORD, "proxy_wants_other_login"),
        ("basic", "basic", USER, "wrong-Secret", "proxy_login_refused"),
        ("ntlm", "ntlm", USER, "wrong-Secret", "proxy_login_refused"),
        ("negotiate", "negotiate", USER, "wrong-Secret", "proxy_login_refused"),
        ("ntlm", "ntlm", "CORP\\nobody", "wrong-Secret", "proxy_login_refused"),
    ],
)
async def test_a_proxy_that_does_not_let_us_in_is_named(
    auth: ProxyAuth, wanted: str, user: str, password: str, code: str
) -> None:
    async with http_site(echo) as site, connect_proxy(wanted, site.port) as proxy:
        client = Client(proxy=proxy_at(proxy.port, auth, user, password))
        with pytest.raises(ProxyFailed) as failed:
            await client.perform(Request("GET", "http://cns/", schemes=("http",)))
        await client.close()
    assert failed.value.code == code
    assert (site.connections, proxy.targets) == (0, [])
    text = "".join(traceback.format_exception(failed.value))
    assert "Secret" not in text and "svc-ens" not in text
    # A wrong password is tried once: a second try might lock the account.
    assert proxy.refused <= 2


async def test_the_proxy_can_not_pass_itself_off_as_the_host(authority: Authority) -> None:
    context, _ = authority.context("proxy.corp.invalid")
    async with http_site(echo, context) as site, connect_proxy("none", site.port) as proxy:
        client = Client(proxy=proxy_at(proxy.port, "none"))
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", f"https://{HOST}/", tls=Tls(authority.pem)))
        await client.close()


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (b"", "proxy_hung_up"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "proxy_malformed"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", "proxy_malformed"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "proxy_refused"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy_refused"),
        (b"x" * 100_000, "proxy_malformed"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM ###\r\n\r\n", "proxy_malformed"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM AAAA\r\n\r\n", "proxy_login_impossible"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n", "proxy_login_refused"),
        (b"HTTP/1.1 407 No\r\n\r\n", "proxy_wants_other_login"),
    ],
)
async def test_a_proxy_that_says_anything(says: bytes, code: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(proxy=proxy_at(server.sockets[0].getsockname()[1], "ntlm"))
    with pytest.raises(ProxyFailed) as failed:
        await client.perform(Request("GET", "http://cns/", schemes=("http",)))
    assert failed.value.code == code
    await client.close()
    server.close()


async def test_a_proxy_that_is_away_or_silent() -> None:
    async def serve(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    silent = proxy_at(server.sockets[0].getsockname()[1], "none")
    ways: list[tuple[Proxy, type[WireError], str]] = [
        (proxy_at(1, "none"), ConnectFailed, "proxy_unreachable"),
        (Proxy("proxy.invalid", 8080), ConnectFailed, "proxy_not_found"),
        (silent, DeadlineExceeded, "deadline_exceeded"),
    ]
    for proxy, kind, code in ways:
        client = Client(proxy=proxy)
        with pytest.raises(kind) as failed:
            await client.perform(Request("GET", "http://cns/", deadline_s=0.5, schemes=("http",)))
        assert failed.value.code == code
        await client.close()
    server.close()


def test_secrets_are_not_shown() -> None:
    shown = repr(proxy_at(8080, "ntlm"))
    assert "Secret" not in shown and "svc-ens" not in shown


async def test_an_address_check_and_a_proxy_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="proxy"):
        Client(lambda _address: None, proxy=Proxy("127.0.0.1", 8080))
