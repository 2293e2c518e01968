"""Many small POSTs answered by callback: each once, whatever befalls it, and none remembered."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from apps.lab.bench_relay.processes import Spoken
from apps.wire.client import Client, Response, Tls, header_lines
from apps.wire.errors import ConnectFailed, DeadlineExceeded, ProtocolFailed, WireError
from apps.wire.posts import Posts

HEADERS = (
    ("authorization", "bearer a.b.c"),
    ("apns-topic", "com.example.mail"),
    ("apns-push-type", "alert"),
    ("apns-priority", "10"),
)


@dataclass
class Site:
    """A server with HTTP/2, and what it has counted so far."""

    url: str
    tls: Tls
    counted: Callable[[], dict[str, int]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    words = ["-m", "apps.lab.bench_relay.apns", "--directory", str(tmp_path)]
    with Spoken([sys.executable, *words], tmp_path / "apns.log") as process:
        url = f"https://127.0.0.1:{process.hear()}/3/device/{'ab' * 32}"
        tls = Tls(ca_pem=(tmp_path / "ca.pem").read_text("ascii"))
        yield Site(url, tls, lambda: process.ask(""))


class Answers:
    """Collects answers until there are as many as were asked for."""

    def __init__(self, wanted: int) -> None:
        self.got: list[Response | WireError] = []
        self._wanted = wanted
        self._all = asyncio.Event()

    def take(self, answer: Response | WireError) -> None:
        self.got.append(answer)
        if len(self.got) == self._wanted:
            self._all.set()

    async def all(self) -> list[Response | WireError]:
        await asyncio.wait_for(self._all.wait(), 30)
        return self.got


def headers(number: int) -> list[bytes]:
    return header_lines([*HEADERS, ("apns-id", f"id-{number}")])


@pytest.mark.parametrize("together", [True, False])
async def test_every_post_arrives_once_and_is_answered_once(site: Site, together: bool) -> None:
    client = Client(max_host_connections=1, together=together)
    posts = Posts(client, site.tls, max_response_bytes=1000)
    try:
        for lot in range(3):
            answers = Answers(500)
            for number in range(500):
                body = b"body %d of %d" % (number, lot)
                posts.send(site.url, headers(number), body, 20.0, answers.take)
            assert {a.status for a in await answers.all() if isinstance(a, Response)} == {200}
            counted = site.counted()
            assert (counted["answered"], counted["different"]) == (500, 500)
    finally:
        await client.close()


async def test_an_answer_that_is_no_success_comes_with_its_headers(site: Site) -> None:
    client = Client()
    posts = Posts(client, site.tls, max_response_bytes=1000)
    try:
        answers = Answers(1)
        posts.send(site.url, header_lines(HEADERS[:1]), b"{}", 20.0, answers.take)
        (answer,) = await answers.all()
        assert isinstance(answer, Response)
        assert (answer.status, answer.body) == (400, b"")
    finally:
        await client.close()


async def test_what_never_arrives_is_told_by_its_error(site: Site) -> None:
    client = Client()
    posts = Posts(client, Tls(), max_response_bytes=1000)
    answers = Answers(3)
    posts.send(site.url, headers(1), b"{}", 20.0, answers.take)
    posts.send("http://127.0.0.1:1/", headers(1), b"{}", 20.0, answers.take)
    posts.send("https://127.0.0.1:1/", headers(1), b"{}", 20.0, answers.take)
    codes = {a.code for a in await answers.all() if isinstance(a, WireError)}
    assert codes == {"tls_untrusted", "curl_1", "connect_failed"}
    await client.close()


async def test_closing_answers_what_is_under_way(site: Site) -> None:
    client = Client()
    posts = Posts(client, site.tls, max_response_bytes=1000)
    answers = Answers(10)
    for number in range(10):
        posts.send(site.url, headers(number), b"{}", 20.0, answers.take)
    await client.close()
    got = await answers.all()
    assert [each.code for each in got if isinstance(each, ConnectFailed)] == ["client_closed"] * 10
    with pytest.raises(ConnectFailed):
        posts.send(site.url, headers(1), b"{}", 20.0, answers.take)


async def test_what_can_t_be_sent_is_refused_at_once(site: Site) -> None:
    client = Client()
    posts = Posts(client, site.tls, max_response_bytes=1000)
    with pytest.raises(DeadlineExceeded):
        posts.send(site.url, headers(1), b"{}", 0.0, Answers(1).take)
    with pytest.raises(ProtocolFailed):
        header_lines([("apns-id", "one\r\nauthorization: bearer mine")])
    await client.close()


async def test_a_reused_handle_sends_nothing_of_the_post_before(site: Site) -> None:
    client = Client(max_host_connections=1)
    posts = Posts(client, site.tls, max_response_bytes=1000)
    try:
        for given in (headers(1), header_lines(HEADERS)):
            answers = Answers(1)
            posts.send(site.url, given, b"{}", 20.0, answers.take)
            await answers.all()
        # The second had no apns-id, and the server saw none.
        assert site.counted()["refused"] == 1
    finally:
        await client.close()
