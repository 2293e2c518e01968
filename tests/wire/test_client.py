from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import os
import socket
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apps.wire import client as client_module
from apps.wire.client import Client, Request, Tls, status_and_headers
from apps.wire.errors import (
    AddressRefused,
    ConnectFailed,
    DeadlineExceeded,
    ProtocolFailed,
    ResponseTooLarge,
    TlsFailed,
    WireError,
)
from tests.wire.servers import Authority, Seen, h2_site, http_answer, http_site


async def echo(seen: Seen) -> bytes:
    return http_answer(200, seen.method.encode() + b" " + seen.body, X_Seen=seen.target)


async def never(_seen: Seen) -> bytes:
    await asyncio.sleep(30)
    return http_answer()


def plain(url: str, **options: object) -> Request:
    return Request(url=url, schemes=("http",), **({"method": "GET"} | options))  # type: ignore[arg-type]


def test_headers_that_come_again_and_again_cost_no_more_than_others() -> None:
    """All that libcurl takes of them, 300 KB, would else hold up everybody for half a second."""

    def seconds(lines: int) -> float:
        head = [b"HTTP/1.1 200 OK\r\n", *[b"a:b\r\n"] * lines]
        began = time.process_time()
        status_and_headers(head)
        return time.process_time() - began

    assert status_and_headers([b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", b"a:c\r\n"])[1] == {"a": "b, c"}
    assert min(seconds(60_000) for _ in range(3)) < 7 * min(seconds(15_000) for _ in range(3))


async def test_a_post_over_tls_with_a_private_ca(authority: Authority, client: Client) -> None:
    context, _ = authority.context()
    async with http_site(echo, context) as site:
        request = Request(
            "POST",
            site.url("/EWS/Exchange.asmx?a=b"),
            (("Authorization", "Basic abc"), ("Content-Type", "text/xml"), ("X-Empty", "")),
            b"\x00body\xff",
            tls=Tls(authority.pem),
        )
        response = await client.perform(request)
    assert (response.status, response.body) == (200, b"POST \x00body\xff")
    assert response.headers["x-seen"] == "/EWS/Exchange.asmx?a=b"
    (seen,) = site.requests
    assert seen.headers == {
        "host": f"localhost:{site.port}",
        "authorization": "Basic abc",
        "content-type": "text/xml",
        "x-empty": "",
        "content-length": "6",
    }


async def test_connections_are_kept_and_nothing_of_the_last_request_sticks(
    authority: Authority, client: Client
) -> None:
    context, _ = authority.context()
    tls = Tls(authority.pem)
    async with http_site(echo, context) as site:
        first = Request("POST", site.url("/1"), (("Authorization", "Basic a"),), b"1", tls=tls)
        await client.perform(first)
        assert (await client.perform(Request("GET", site.url("/2"), tls=tls))).body == b"GET "
        assert (await client.perform(Request("DELETE", site.url("/3"), tls=tls))).status == 200
        assert (await client.perform(Request("POST", site.url("/4"), tls=tls))).body == b"POST "
        assert site.connections == 1
    assert [seen.method for seen in site.requests] == ["POST", "GET", "DELETE", "POST"]
    assert all("authorization" not in seen.headers for seen in site.requests[1:])
    assert all(seen.body == b"" for seen in site.requests[1:])


async def test_an_answer_tells_of_its_connection_where_that_is_asked(
    authority: Authority, client: Client
) -> None:
    context, spki = authority.context()
    tls = Tls(authority.pem)
    async with http_site(echo, context) as site:
        asking = Request("GET", site.url("/1"), tls=tls, ask_peer=True)
        for _ in range(2):
            first = (await client.perform(asking)).peer
            assert first is not None and first.new
            shown = x509.load_pem_x509_certificate(first.certificate.encode()).public_key()
            assert shown.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki
            again = (await client.perform(asking)).peer
            assert again is not None and (again.new, again.certificate) == (False, "")
            assert (await client.perform(Request("GET", site.url("/2"), tls=tls))).peer is None
            # A connection that is made anew tells of its certificate, too.
            await client.close()
            client = Client()
        await client.close()
    async with http_site(echo) as site:
        in_clear = plain(site.url(scheme="http"), ask_peer=True)
        client = Client()
        peer = (await client.perform(in_clear)).peer
        assert peer is not None and (peer.new, peer.certificate) == (True, "")
        await client.close()


async def test_an_unknown_ca_and_a_wrong_name_are_refused(
    authority: Authority, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    context, _ = authority.context("localhost")
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    async with http_site(echo, context) as site:
        for tls, host in (
            (Tls(), "localhost"),
            (Tls(stranger.pem), "localhost"),
            (Tls(authority.pem), "127.0.0.1"),
        ):
            with pytest.raises(TlsFailed) as caught:
                await client.perform(Request("GET", site.url(host=host), tls=tls))
            assert caught.value.code == "tls_untrusted"
        # A connection verified with one CA is not lent to a request that trusts another.
        await client.perform(Request("GET", site.url(), tls=Tls(authority.pem)))
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", site.url(), tls=Tls(stranger.pem)))
        with pytest.raises(TlsFailed) as caught:
            await client.perform(Request("GET", site.url(), tls=Tls("no certificate")))
        assert caught.value.code == "ca_malformed"
    assert len(site.requests) == 1


async def test_pins(authority: Authority, client: Client) -> None:
    context, spki = authority.context()
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    other = base64.b64encode(bytes(32)).decode()
    async with http_site(echo, context) as site:
        ok = Request("GET", site.url(), tls=Tls(authority.pem, (other, pin)))
        assert (await client.perform(ok)).status == 200
        with pytest.raises(TlsFailed) as caught:
            await client.perform(Request("GET", site.url(), tls=Tls(authority.pem, (other,))))
        assert caught.value.code == "tls_pin_mismatch"
        # A pin doesn't stand in for the chain.
        with pytest.raises(TlsFailed):
            await client.perform(Request("GET", site.url(), tls=Tls("", (pin,))))
    assert len(site.requests) == 1


async def test_plain_http_needs_to_be_asked_for(client: Client) -> None:
    async with http_site(echo) as site:
        url = site.url(scheme="http")
        with pytest.raises(ProtocolFailed) as caught:
            await client.perform(Request("GET", url))
        assert caught.value.code == "scheme_refused"
        assert (await client.perform(plain(url))).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "https:localhost",
        "https://",
        "https:///x",
        "https://user:pw@localhost/",
        "https://localhost\\@evil/",
        "https://local host/",
        "https://localhost/a b",
        "https://localhost/\r\nX: y",
        "https://localhost/\x00",
        "https://löcalhost/",
        "https://localhost/\x7f",
        "https://localhost/\n",
        "https://localhost:99999/",
        "https://[::1/",
    ],
)
async def test_malformed_urls(client: Client, url: str) -> None:
    with pytest.raises(ProtocolFailed) as caught:
        await client.perform(Request("GET", url))
    assert caught.value.code == "url_malformed"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://localhost/", "gopher://localhost/"])
async def test_other_schemes(client: Client, url: str) -> None:
    with pytest.raises(ProtocolFailed):
        await client.perform(Request("GET", url, schemes=("file", "ftp", "gopher")))


@pytest.mark.parametrize("header", [("X", "a\r\nY: b"), ("X\nY", "a"), ("X", "a\x00")])
async def test_headers_can_t_be_injected(client: Client, header: tuple[str, str]) -> None:
    async with http_site(echo) as site:
        with pytest.raises(ProtocolFailed) as caught:
            await client.perform(plain(site.url(scheme="http"), headers=(header,)))
        assert caught.value.code == "header_malformed"
    assert site.connections == 0


async def test_redirects_are_answers(client: Client) -> None:
    async def redirect(_seen: Seen) -> bytes:
        return http_answer(302, Location="/elsewhere", Set_Cookie="a=b")

    async with http_site(redirect) as site:
        for _ in range(2):
            response = await client.perform(plain(site.url(scheme="http")))
            assert (response.status, response.headers["location"]) == (302, "/elsewhere")
    assert [seen.target for seen in site.requests] == ["/", "/"]
    assert all("cookie" not in seen.headers for seen in site.requests)


async def test_proxies_of_the_environment_are_ignored(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with http_site(echo) as proxy, http_site(echo) as site:
        for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await client.perform(plain(site.url(scheme="http")))).status == 200
    assert (proxy.connections, len(site.requests)) == (0, 1)


@pytest.mark.parametrize("deadline_s", [0.2, 0, -1])
async def test_the_deadline_is_total(client: Client, deadline_s: float) -> None:
    async def drip(_seen: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart"

    async with http_site(drip) as slow, http_site(never) as silent:
        for site in (slow, silent):
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                request = plain(site.url(scheme="http"), deadline_s=deadline_s)
                await client.perform(request)
            assert time.monotonic() - began < 1


async def test_time_in_line_counts() -> None:
    client = Client(max_host_connections=1)
    async with http_site(never) as site:
        request = plain(site.url(scheme="http"), deadline_s=0.3)
        began = time.monotonic()
        results = await asyncio.gather(
            *(client.perform(request) for _ in range(5)), return_exceptions=True
        )
        assert time.monotonic() - began < 1.5
        assert [type(result) for result in results] == [DeadlineExceeded] * 5
        assert site.connections <= 2
    await client.close()


async def test_a_black_hole_is_left_at_the_deadline(client: Client) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        hogs = [socket.socket() for _ in range(4)]
        for hog in hogs:
            hog.setblocking(False)
            hog.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.perform(Request("GET", f"https://127.0.0.1:{port}/", deadline_s=0.3))
        assert time.monotonic() - began < 1
        for hog in hogs:
            hog.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_answers_are_cut_off(client: Client, chunked: bool) -> None:
    body = b"x" * 2000

    async def large(_seen: Seen) -> bytes:
        if chunked:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            return head + b"7d0\r\n" + body + b"\r\n0\r\n\r\n"
        return http_answer(200, body)

    async with http_site(large) as site:
        url = site.url(scheme="http")
        assert (await client.perform(plain(url, max_response_bytes=2000))).body == body
        with pytest.raises(ResponseTooLarge):
            await client.perform(plain(url, max_response_bytes=1999))


@asynccontextmanager
async def in_parts(*parts: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A site that sends the first part at once, the others when told to, and hangs up."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(parts[0])
        await go_on.wait()
        for part in parts[1:]:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", go_on
    go_on.set()
    server.close()


PARTS = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Kind: lines\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
    b"3\r\ntwo\r\n",
)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_body_is_handed_over_as_it_comes(client: Client, ends: bool) -> None:
    taken: list[bytes] = []
    came = asyncio.Event()

    def take(status: int, headers: Mapping[str, str]) -> Callable[[bytes], None]:
        assert (status, headers["x-kind"]) == (200, "lines")
        return lambda part: (taken.append(part), came.set())[0]

    async with in_parts(*PARTS, *([b"0\r\n\r\n"] if ends else [])) as (url, go_on):
        call = asyncio.create_task(client.perform(plain(url), take))
        await asyncio.wait_for(came.wait(), 5)
        assert taken == [b"one"]
        assert not call.done()
        go_on.set()
        if ends:
            assert (await call).body == b""
        else:
            with pytest.raises(ConnectFailed, match="connection_lost"):
                await call
    assert taken == [b"one", b"two"]


async def test_a_body_that_nobody_takes_is_kept_whole(client: Client) -> None:
    async with in_parts(*PARTS, b"0\r\n\r\n") as (url, go_on):
        go_on.set()
        assert (await client.perform(plain(url), lambda _status, _headers: None)).body == b"onetwo"


async def test_who_takes_a_body_can_end_it(client: Client) -> None:
    class Enough(Exception):
        pass

    def take(_status: int, _headers: Mapping[str, str]) -> Callable[[bytes], None]:
        raise Enough

    async with in_parts(*PARTS) as (url, _):
        with pytest.raises(Enough):
            await client.perform(plain(url), take)


async def test_endless_headers_are_cut_off(client: Client) -> None:
    async def many(_seen: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 2_000_000 + b"\r\n\r\n"

    async with http_site(many) as site:
        with pytest.raises(WireError):
            await client.perform(plain(site.url(scheme="http")))


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", ConnectFailed),
        (b"220 mail.example ESMTP\r\n", ProtocolFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", ConnectFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", ProtocolFailed),
    ],
)
async def test_broken_answers(client: Client, raw: bytes, kind: type[WireError]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(kind):
        await client.perform(plain(f"http://127.0.0.1:{port}/", deadline_s=2))
    server.close()


async def test_interim_answers_are_skipped(client: Client) -> None:
    async def early(_seen: Seen) -> bytes:
        return b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n" + http_answer(200, b"ok", X="1")

    async with http_site(early) as site:
        response = await client.perform(plain(site.url(scheme="http")))
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers == {"content-length": "2", "x": "1"}


class TestAddressCheck:
    async def test_every_address_is_asked_before_it_is_connected(self) -> None:
        asked: list[IPv4Address | IPv6Address] = []

        def refuse(address: IPv4Address | IPv6Address) -> None:
            asked.append(address)
            raise AddressRefused

        client = Client(refuse)
        async with http_site(echo) as site:
            for host in ("127.0.0.1", "localhost", "0x7f.1", "2130706433"):
                with pytest.raises(AddressRefused):
                    await client.perform(plain(site.url(scheme="http", host=host)))
        assert site.connections == 0
        assert set(asked) <= {ip_address("127.0.0.1"), ip_address("::1")}
        assert len(asked) >= 4
        await client.close()

    async def test_a_permitted_address_of_several_is_used(self) -> None:
        def no_six(address: IPv4Address | IPv6Address) -> None:
            if address.version == 6:
                raise AddressRefused

        client = Client(no_six)
        async with http_site(echo) as site:
            assert (await client.perform(plain(site.url(scheme="http")))).status == 200
        await client.close()

    async def test_a_permitted_address_of_several_that_hangs_is_no_refusal(self) -> None:
        def no_six(address: IPv4Address | IPv6Address) -> None:
            if address.version == 6:
                raise AddressRefused

        client = Client(no_six)
        async with http_site(never) as site:
            with pytest.raises(DeadlineExceeded):
                url = site.url(scheme="http", host="localhost")
                await client.perform(plain(url, deadline_s=1.0))
        await client.close()

    async def test_a_broken_check_refuses(self) -> None:
        def broken(_address: IPv4Address | IPv6Address) -> None:
            raise ZeroDivisionError

        client = Client(broken)
        async with http_site(echo) as site:
            with pytest.raises(AddressRefused):
                await client.perform(plain(site.url(scheme="http")))
        assert site.connections == 0
        await client.close()

    async def test_a_permitted_address_that_is_down_is_not_a_refusal(self) -> None:
        client = Client(lambda _address: None)
        with pytest.raises(ConnectFailed):
            await client.perform(Request("GET", "https://127.0.0.1:1/"))
        await client.close()

    async def test_sockets_leave_nothing_behind(self) -> None:
        client = Client(lambda _address: None)
        gc.collect()  # what other tests have left is not ours
        async with http_site(echo) as site:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert (await client.perform(plain(site.url(scheme="http")))).status == 200
                gc.collect()
            assert [str(warning.message) for warning in caught] == []
            await client.close()
            await asyncio.sleep(0.05)
            assert site.open_now == 0


async def test_an_unknown_host(client: Client) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await client.perform(Request("GET", "https://nowhere.invalid/"))
    assert caught.value.code == "host_not_found"


async def test_errors_and_reprs_tell_no_secrets(client: Client) -> None:
    request = Request("GET", "https://hush.invalid/hush?q", (("Authorization", "hush"),), b"hush")
    assert "hush" not in repr(request)
    with pytest.raises(WireError) as caught:
        await client.perform(request)
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_cancellation_ends_the_transfer(client: Client) -> None:
    async with http_site(never) as site:
        task = asyncio.create_task(client.perform(plain(site.url(scheme="http"))))
        while not site.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client._running
        assert not client._watched
    async with http_site(echo) as site:
        assert (await client.perform(plain(site.url(scheme="http")))).status == 200


async def test_closing_fails_what_is_under_way() -> None:
    client = Client()
    async with http_site(never) as site:
        task = asyncio.create_task(client.perform(plain(site.url(scheme="http"))))
        while not site.requests:
            await asyncio.sleep(0.01)
        await client.close()
        await client.close()
        with pytest.raises(ConnectFailed) as caught:
            await task
        assert caught.value.code == "client_closed"
        with pytest.raises(ConnectFailed):
            await client.perform(plain(site.url(scheme="http")))


async def test_hundreds_at_once_and_no_leak(authority: Authority, client: Client) -> None:
    async def slow_echo(seen: Seen) -> bytes:
        await asyncio.sleep(0.05)
        return http_answer(200, seen.body)

    context, _ = authority.context()
    async with http_site(slow_echo, context) as site:
        for _ in range(2):
            answers = await asyncio.gather(
                *(
                    client.perform(
                        Request("POST", site.url(), body=str(n).encode(), tls=Tls(authority.pem))
                    )
                    for n in range(150)
                )
            )
            assert [answer.body for answer in answers] == [str(n).encode() for n in range(150)]
        assert site.connections == 150
        assert not client._running
    await asyncio.sleep(0.1)


async def test_connections_to_one_host_are_limited() -> None:
    client = Client(max_host_connections=3)

    async def slow_echo(seen: Seen) -> bytes:
        await asyncio.sleep(0.02)
        return http_answer(200, seen.body)

    async with http_site(slow_echo) as site:
        request = plain(site.url(scheme="http"))
        await asyncio.gather(*(client.perform(request) for _ in range(30)))
        assert (site.connections, len(site.requests)) == (3, 30)
    await client.close()


async def test_a_client_stays_with_its_loop(client: Client) -> None:
    async with http_site(echo) as site:
        await client.perform(plain(site.url(scheme="http")))

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError):
            await client.perform(plain("http://localhost/"))

    await asyncio.to_thread(asyncio.run, elsewhere())


class TestHttp2:
    async def test_many_requests_share_one_connection(
        self, authority: Authority, client: Client
    ) -> None:
        context, _ = authority.context(alpn=("h2",))
        tls = Tls(authority.pem)
        async with h2_site(0.05, context) as site:
            began = time.monotonic()
            answers = await asyncio.gather(
                *(
                    client.perform(
                        Request("POST", site.url(f"/{n}"), body=b"!", http2=True, tls=tls)
                    )
                    for n in range(100)
                )
            )
            assert time.monotonic() - began < 2
            assert [answer.body for answer in answers] == [f"/{n}!".encode() for n in range(100)]
            assert answers[7].headers["x-path"] == "/7"
            assert {answer.status for answer in answers} == {200}
            assert site.connections == 1

    async def test_the_peer_s_stream_limit_is_kept(self, authority: Authority) -> None:
        context, _ = authority.context(alpn=("h2",))
        client = Client(max_host_connections=1)
        async with h2_site(0.01, context, streams=5) as site:
            request = Request("GET", site.url(), http2=True, tls=Tls(authority.pem))
            answers = await asyncio.gather(*(client.perform(request) for _ in range(40)))
            assert {answer.status for answer in answers} == {200}
            assert site.connections == 1
        await client.close()

    async def test_cancelling_one_stream_spares_the_others(
        self, authority: Authority, client: Client
    ) -> None:
        context, _ = authority.context(alpn=("h2",))
        async with h2_site(0.3, context) as site:
            request = Request("GET", site.url(), http2=True, tls=Tls(authority.pem))
            tasks = [asyncio.create_task(client.perform(request)) for _ in range(5)]
            while len(site.requests) < 5:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(answers[0], asyncio.CancelledError)
            assert all(not isinstance(answer, BaseException) for answer in answers[1:])
            assert site.connections == 1

    async def test_streams_turned_away_by_a_goaway_are_sent_again(
        self, authority: Authority, client: Client
    ) -> None:
        context, _ = authority.context(alpn=("h2",))
        async with h2_site(0.1, context, goaway_after=10) as site:
            tls = Tls(authority.pem)
            answers = await asyncio.gather(
                *(
                    client.perform(
                        Request("POST", site.url(f"/{n}"), body=b"!", http2=True, tls=tls)
                    )
                    for n in range(30)
                )
            )
            assert [answer.body for answer in answers] == [f"/{n}!".encode() for n in range(30)]
            assert len(site.requests) == 30
            assert site.connections >= 2

    async def test_a_peer_without_http2_is_served_too(
        self, authority: Authority, client: Client
    ) -> None:
        context, _ = authority.context()
        async with http_site(echo, context) as site:
            request = Request("GET", site.url(), http2=True, tls=Tls(authority.pem))
            assert (await client.perform(request)).status == 200


def test_windows_select_takes_512_sockets() -> None:
    assert client_module.MAX_CONNECTIONS < 512 or os.name != "nt"


async def test_a_new_connection_carries_one_request_until_its_first_answer(
    authority: Authority,
) -> None:
    """Whoever floods it earlier is refused by servers that allow one at first, as APNs."""
    context, _ = authority.context(alpn=("h2",))
    client = Client(max_host_connections=4, newcomers_alone=True)
    async with h2_site(0.1, context, streams=10) as site:
        request = Request("POST", site.url(), body=b"x", http2=True, tls=Tls(ca_pem=authority.pem))
        flood = asyncio.gather(*(client.perform(request) for _ in range(30)))
        await asyncio.sleep(0.08)
        assert (site.connections, len(site.requests)) == (1, 1)
        assert {answer.status for answer in await flood} == {200}
        assert site.connections <= 4
        assert site.lost == 0
    await client.close()
