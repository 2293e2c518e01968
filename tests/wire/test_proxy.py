"""Through a proxy that wants to know who we are: a real acceptor of NTLM and Negotiate."""

from __future__ import annotations

import asyncio
import socket
import traceback
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, ClassVar

import pytest

from apps.wire import target
from apps.wire.client import Client, Request, Tls
from apps.wire.errors import (
    AddressRefused,
    ConnectFailed,
    DeadlineExceeded,
    ProtocolFailed,
    ProxyFailed,
    TlsFailed,
    WireError,
)
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


def no_loopback(address: IPv4Address | IPv6Address) -> None:
    if address.is_loopback:
        raise AddressRefused


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "127.0.0.1.", "00127.0.0.1"),
        *("[::1]", "[0:0:0:0:0:0:0:1]", "localhost", "LocalHost.", "a.localhost"),
    ],
)
async def test_a_proxy_is_not_asked_for_what_the_check_refuses(host: str) -> None:
    async with http_site(echo) as site, connect_proxy("none", site.port) as proxy:
        client = Client(no_loopback, proxy=proxy_at(proxy.port, "none"))
        with pytest.raises(AddressRefused):
            await client.perform(Request("GET", f"http://{host}/", schemes=("http",)))
        await client.close()
    assert (proxy.targets, proxy.heads, site.connections) == ([], [], 0)


@pytest.mark.parametrize("host", ["127%2e0.0.1", "a_b%00", "[fe80::1%25lo]", "a;b", "-a", "a..b:c"])
async def test_a_host_that_proxies_may_read_in_some_other_way_is_not_asked_for(host: str) -> None:
    async with connect_proxy("none") as proxy:
        client = Client(no_loopback, proxy=proxy_at(proxy.port, "none"))
        with pytest.raises((ProtocolFailed, AddressRefused)):
            await client.perform(Request("GET", f"http://{host}/", schemes=("http",)))
        await client.close()
    assert proxy.heads == []


async def test_a_name_that_is_unknown_here_is_left_to_the_proxy() -> None:
    async with http_site(echo) as site, connect_proxy("none", site.port) as proxy:
        client = Client(no_loopback, proxy=proxy_at(proxy.port, "none"))
        request = Request("POST", f"http://{HOST}/", body=b"x", schemes=("http",))
        assert (await client.perform(request)).body == b"x"
        await client.close()
    assert proxy.targets == [f"{HOST}:80"]


class Resolver(asyncio.SelectorEventLoop):
    """A loop in which one name has the addresses that the test says, in turn."""

    answers: ClassVar[list[list[str]]] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if host != "mail.example.com":
            return await super().getaddrinfo(host, port, **options)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([["192.0.2.1"]], 2),
        ([["127.0.0.1"]], 0),
        ([["192.0.2.1", "127.0.0.1"]], 0),  # the proxy may take either
        ([["192.0.2.1"], ["127.0.0.1"]], 1),  # and it may be another one the next time
    ],
)
def test_a_name_is_looked_up_here_before_each_tunnel(answers: list[list[str]], asked: int) -> None:
    Resolver.answers = answers

    async def leave(_seen: Seen) -> bytes:
        return http_answer(200, Connection="close")

    async def run() -> int:
        async with http_site(leave) as site, connect_proxy("none", site.port) as proxy:
            client = Client(no_loopback, proxy=proxy_at(proxy.port, "none"))
            for _ in range(2):
                with suppress(AddressRefused):
                    request = Request("GET", "http://mail.example.com/", schemes=("http",))
                    await client.perform(request)
            await client.close()
            return len(proxy.targets)

    with asyncio.Runner(loop_factory=Resolver) as runner:
        assert runner.run(run()) == asked


def test_a_name_server_that_is_silent_holds_nobody_up_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target, "_LOOK_UP_S", 0.2)
    asked = []

    class Silent(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> Any:
            asked.append(host)
            await asyncio.sleep(30)

    async def run() -> None:
        targets = target.Targets(no_loopback)
        for _ in range(3):
            await targets.check("mail.example.com")

    with asyncio.Runner(loop_factory=Silent) as runner:
        runner.run(asyncio.wait_for(run(), 5))
    assert asked == ["mail.example.com"]


async def test_the_address_of_the_proxy_is_checked_by_its_own_rule() -> None:
    def nobody(_address: IPv4Address | IPv6Address) -> None:
        raise AddressRefused

    async with http_site(echo) as site, connect_proxy("none", site.port) as proxy:
        request = Request("GET", f"http://{HOST}/", schemes=("http",))
        client = Client(proxy=proxy_at(proxy.port, "none"), check_proxy=nobody)
        with pytest.raises(ProxyFailed) as failed:
            await client.perform(request)
        assert failed.value.code == "proxy_address_refused"
        assert proxy.heads == []
        await client.close()
        client = Client(proxy=proxy_at(proxy.port, "none"), check_proxy=lambda _address: None)
        assert (await client.perform(request)).status == 200
        await client.close()
