"""EwsServer over real TLS, against small servers that answer as Exchange does, or not at all."""

from __future__ import annotations

import asyncio
import time
import traceback
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from apps.exchange.errors import (
    AddressForbidden,
    CredentialsRefused,
    EwsError,
    ExchangeError,
    Forbidden,
    NotEws,
    NotThisMailbox,
    ServerBusy,
    TlsRefused,
    Unreachable,
)
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint, Extras, Joined, MailServer, Proof
from apps.exchange.transport import MAX_RESPONSE_BYTES
from tests.exchange import answers
from tests.exchange.schema import assert_valid
from tests.lab.ews_schema import schema
from tests.wire.servers import Authority, Seen, Site, http_answer, http_site

ANNA = Credentials("basic", "EXAMPLE\\ännä", "p:ß")
LAB = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
Answers = Callable[[str], Awaitable[bytes]]


@pytest.fixture(autouse=True)
def referee() -> None:
    """Skips here and not within a server's task, where the schema is absent."""
    schema()


def asked(seen: Seen) -> str:
    for operation in ("Subscribe", "GetItem", "GetFolder", "FindItem"):
        if b"<m:" + operation.encode() in seen.body:
            return operation
    raise AssertionError


def soap(raw: bytes, status: int = 200) -> bytes:
    return http_answer(status, raw, Content_Type="text/xml; charset=utf-8")


@asynccontextmanager
async def exchange(
    authority: Authority, answer: Answers
) -> AsyncIterator[tuple[EwsServer, Endpoint, Site]]:
    """A server that answers by operation, the client, and the endpoint between them.

    It offers Basic to whoever asks; that is not among its `requests`.
    """

    async def serve(seen: Seen) -> bytes:
        if "authorization" not in seen.headers:
            site.requests.remove(seen)
            assert seen.body == b""
            return http_answer(401, b"", WWW_Authenticate="Negotiate, NTLM, Basic realm=x")
        assert_valid(seen.body)
        return await answer(asked(seen))

    context, _ = authority.context()
    server = EwsServer("0.1.0")
    async with http_site(serve, context) as site:
        endpoint = Endpoint(site.url("/EWS/Exchange.asmx"), authority.pem, exceptions=LAB)
        try:
            yield server, endpoint, site
        finally:
            await server.close()


async def answer_all(operation: str) -> bytes:
    return {
        "Subscribe": soap(answers.response("Subscribe", answers.subscribed())),
        "GetItem": soap(
            answers.response("GetItem", answers.item("1"), answers.item("2", "Second"))
        ),
        "GetFolder": soap(answers.response("GetFolder", answers.folder("A", 5))),
        "FindItem": soap(answers.response("FindItem", answers.found("1", "2"))),
    }[operation]


def always(raw: bytes) -> Answers:
    async def answer(_operation: str) -> bytes:
        return raw

    return answer


def test_it_is_a_mail_server() -> None:
    server: MailServer = EwsServer("0.1.0")
    assert server is not None


async def test_join_and_what_is_sent(authority: Authority) -> None:
    async with exchange(authority, answer_all) as (server, endpoint, site):
        joined = await server.join(endpoint, ANNA, "https://ens.example/notify?id=1&creds=2", 30, 5)
    assert joined == Joined("sub+/=1", "AQAAAA==")
    (seen,) = site.requests
    assert (seen.method, seen.target) == ("POST", "/EWS/Exchange.asmx")
    assert seen.headers["user-agent"] == "MailNotificationService/v2 (EWS/0.1.0)"
    assert seen.headers["content-type"] == "text/xml; charset=utf-8"
    scheme, _, value = seen.headers["authorization"].partition(" ")
    assert (scheme, b64decode(value).decode()) == ("Basic", "EXAMPLE\\ännä:p:ß")


async def test_prove(authority: Authority) -> None:
    same = answers.response("GetFolder", answers.folder("A"), answers.folder("A"))
    other = answers.response("GetFolder", answers.folder("A"), answers.folder("a"))
    async with exchange(authority, always(soap(same))) as (server, endpoint, _):
        assert await server.prove(endpoint, ANNA, "anna@example.com", 5) == Proof("A")
    async with exchange(authority, always(soap(other))) as (server, endpoint, _):
        with pytest.raises(NotThisMailbox):
            await server.prove(endpoint, ANNA, "victim@example.com", 5)


async def test_describe_asks_one_after_the_other(authority: Authority) -> None:
    async with exchange(authority, answer_all) as (server, endpoint, site):
        described = await server.describe(endpoint, ANNA, ["1", "2", "1"], True, 5)
    assert [item.subject for item in described.items.values()] == ["Lunch", "Second"]
    assert list(described.items) == ["1", "2"]
    assert described.unread_count == 5
    assert [asked(seen) for seen in site.requests] == ["GetItem", "GetFolder"]


async def test_a_changed_password_is_one_failed_login(authority: Authority) -> None:
    refused = always(http_answer(401, b"", WWW_Authenticate="Basic"))
    async with exchange(authority, refused) as (server, endpoint, site):
        with pytest.raises(CredentialsRefused):
            await server.describe(endpoint, ANNA, ["1"], True, 5)
    assert len(site.requests) == 1


async def test_describe_asks_only_what_is_wanted(authority: Authority) -> None:
    async with exchange(authority, answer_all) as (server, endpoint, site):
        assert (await server.describe(endpoint, ANNA, ["1", "2"], False, 5)).unread_count is None
        assert (await server.describe(endpoint, ANNA, [], True, 5)).items == {}
        assert (await server.describe(endpoint, ANNA, [], False, 5)).items == {}
    assert [asked(seen) for seen in site.requests] == ["GetItem", "GetFolder"]


def with_body(text: str) -> bytes:
    body = f'<t:Body BodyType="Text">{text}</t:Body><t:DateTimeReceived>'
    return answers.response("GetItem", answers.item("1").replace("<t:DateTimeReceived>", body, 1))


@pytest.mark.parametrize("code", ["ErrorInvalidServerVersion", "ErrorSchemaValidation"])
async def test_an_exchange_too_old_for_previews_is_asked_for_the_text(
    authority: Authority, code: str
) -> None:
    # The one that answers first is newer than the one that the request is handed on to.
    first = soap(answers.response("GetItem", answers.item("1")))
    turns = iter([first, soap(answers.fault(code), 500), *[soap(with_body("Hi"))] * 2])

    async def answer(_operation: str) -> bytes:
        return next(turns)

    async with exchange(authority, answer) as (server, endpoint, site):
        await server.describe(endpoint, ANNA, ["1"], False, 5)
        for _ in range(2):
            found = await server.describe(endpoint, ANNA, ["1"], False, 5, Extras(preview=True))
            assert found.items["1"].preview == "Hi"
    # It was not asked for what it does not know a second time.
    assert [b"item:Preview" in seen.body for seen in site.requests] == [False, True, False, False]
    assert [b"item:Body" in seen.body for seen in site.requests] == [False, False, True, True]


async def test_a_mail_too_large_for_a_preview_is_described_without(authority: Authority) -> None:
    turns = iter(
        [
            soap(with_body("x" * (MAX_RESPONSE_BYTES + 1))),
            soap(answers.response("GetItem", answers.item("1"))),
        ]
    )

    async def answer(_operation: str) -> bytes:
        return next(turns)

    async with exchange(authority, answer) as (server, endpoint, _):
        found = await server.describe(endpoint, ANNA, ["1"], False, 10, Extras(preview=True))
    assert (found.items["1"].subject, found.items["1"].preview) == ("Lunch", "")


async def test_newest_unread(authority: Authority) -> None:
    async def answer(operation: str) -> bytes:
        if operation == "FindItem":
            return await answer_all(operation)
        read = "<t:IsRead>true</t:IsRead>"
        return soap(answers.response("GetItem", answers.item("1", is_read=read), answers.item("2")))

    async with exchange(authority, answer) as (server, endpoint, _):
        items = await server.newest_unread(endpoint, ANNA, datetime.now(UTC), 10, 5)
    assert [item.item_id for item in items] == ["2"]


async def test_newest_unread_believes_its_own_limit(authority: Authority) -> None:
    async def answer(operation: str) -> bytes:
        if operation == "FindItem":
            return await answer_all(operation)
        return soap(answers.response("GetItem", answers.item("1")))

    async with exchange(authority, answer) as (server, endpoint, site):
        assert len(await server.newest_unread(endpoint, ANNA, datetime.now(UTC), 1, 5)) == 1
    assert site.requests[1].body.count(b"ItemId Id") == 1


async def test_no_unread_mail_costs_one_call(authority: Authority) -> None:
    none = soap(answers.response("FindItem", answers.found()))
    async with exchange(authority, always(none)) as (server, endpoint, site):
        assert await server.newest_unread(endpoint, ANNA, datetime.now(UTC), 10, 5) == []
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (http_answer(401, b"", WWW_Authenticate="Basic"), CredentialsRefused),
        (http_answer(403), Forbidden),
        (http_answer(404, b"<html/>"), NotEws),
        (http_answer(302, b"", Location="https://login.example/"), NotEws),
        (http_answer(200, b"<html><body>Welcome"), NotEws),
        (http_answer(200), NotEws),
        (http_answer(440), NotEws),
        (http_answer(500, b"Runtime error"), NotEws),
        (http_answer(502), Unreachable),
        (http_answer(504), Unreachable),
        (http_answer(200, b"x" * (MAX_RESPONSE_BYTES + 1)), NotEws),
        (soap(answers.fault("ErrorNonExistentMailbox"), 500), ExchangeError),
        (b"220 smtp\r\n\r\n", NotEws),
    ],
)
async def test_refusals(authority: Authority, raw: bytes, kind: type[ExchangeError]) -> None:
    async with exchange(authority, always(raw)) as (server, endpoint, site):
        with pytest.raises(kind):
            await server.join(endpoint, ANNA, "https://ens.example/", 30, 2)
        assert len(site.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("999999", 3600.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3600.0),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0.0),
        ("Sat, 01 Jan 2000 00:00:00 -0000", None),
    ],
)
async def test_busy_by_status(
    authority: Authority, status: int, value: str, seconds: float | None
) -> None:
    raw = http_answer(status, b"busy", Retry_After=value)
    async with exchange(authority, always(raw)) as (server, endpoint, _):
        with pytest.raises(ServerBusy) as caught:
            await server.prove(endpoint, ANNA, "anna@example.com", 2)
        # What IIS says of itself passes within seconds.
        default = 5.0 if status == 503 else 30.0
        assert caught.value.back_off_s == (default if seconds is None else seconds)
        assert caught.value.of_host is (status == 503)


@pytest.mark.parametrize(
    ("code", "reason", "default_s"),
    [
        ("ErrorServerBusy", "server_busy", 30.0),
        ("ErrorExceededConnectionCount", "too_many_connections", 5.0),
        ("ErrorTooManyObjectsOpened", "too_many_objects", 30.0),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("as_fault", [False, True])
async def test_busy_by_code(
    authority: Authority, code: str, reason: str, default_s: float, wrapped: bool, as_fault: bool
) -> None:
    for hint, seconds in (("1500", 1.5), ("", default_s), ("-1", default_s), ("9e9", default_s)):
        values = answers.value("BackOffMilliseconds", hint) if hint else ""
        outer = code
        if wrapped:
            outer, values = (
                "ErrorInternalServerError",
                values + answers.value("InnerErrorResponseCode", code),
            )
        raw = soap(answers.fault(outer, values), 500)
        if not as_fault:
            raw = soap(answers.response("GetItem", answers.item_error(outer, values)))
        async with exchange(authority, always(raw)) as (server, endpoint, _):
            with pytest.raises(ServerBusy) as caught:
                await server.describe(endpoint, ANNA, ["1"], True, 2)
        assert (caught.value.code, caught.value.back_off_s) == (reason, seconds)
        assert not caught.value.of_host


@pytest.mark.parametrize("inner", ["", "ErrorInternalServerError", "ErrorNobodyKnows"])
async def test_an_inner_code_that_says_nothing(authority: Authority, inner: str) -> None:
    values = answers.value("InnerErrorResponseCode", inner) if inner else ""
    raw = soap(answers.fault("ErrorInternalServerError", values), 500)
    async with exchange(authority, always(raw)) as (server, endpoint, _):
        with pytest.raises(EwsError) as caught:
            await server.describe(endpoint, ANNA, ["1"], True, 2)
    assert caught.value.response_code == "ErrorInternalServerError" and caught.value.transient


async def test_one_failure_ends_the_other_call(authority: Authority) -> None:
    async def answer(operation: str) -> bytes:
        if operation == "GetItem":
            return http_answer(403)
        await asyncio.sleep(30)
        return b""

    async with exchange(authority, answer) as (server, endpoint, _):
        began = time.monotonic()
        with pytest.raises(Forbidden):
            await server.describe(endpoint, ANNA, ["1"], True, 10)
        assert time.monotonic() - began < 1
        await asyncio.sleep(0.01)
        (client,) = server._transport._clients.values()
        assert not client._running


async def test_the_deadline_covers_both_calls_of_a_catch_up(authority: Authority) -> None:
    async def slow(operation: str) -> bytes:
        await asyncio.sleep(0.4)
        return await answer_all(operation)

    async with exchange(authority, slow) as (server, endpoint, _):
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await server.newest_unread(endpoint, ANNA, datetime.now(UTC), 10, 0.6)
        assert time.monotonic() - began < 0.9


async def test_the_guard_and_its_exceptions(authority: Authority) -> None:
    async with exchange(authority, answer_all) as (server, endpoint, site):
        await server.join(endpoint, ANNA, "https://ens.example/", 30, 5)
        # The connection that is open was made under another rule.
        for strict in (
            Endpoint(endpoint.url, endpoint.ca_pem),
            Endpoint(endpoint.url, endpoint.ca_pem, allow_private=True),
        ):
            with pytest.raises(AddressForbidden):
                await server.join(strict, ANNA, "https://ens.example/", 30, 5)
        assert (site.connections, len(site.requests)) == (1, 1)


@pytest.mark.parametrize("allow_private", [False, True])
async def test_private_ranges(allow_private: bool) -> None:
    server = EwsServer("0.1.0")
    endpoint = Endpoint("https://10.255.255.254:1/", allow_private=allow_private)
    # Whether anybody answers there is the network's business; that it was tried is ours.
    with pytest.raises(ExchangeError) as caught:
        await server.join(endpoint, ANNA, "https://x/", 30, 0.3)
    assert isinstance(caught.value, AddressForbidden) is not allow_private
    await server.close()


async def test_an_untrusted_server_gets_no_credentials(authority: Authority) -> None:
    async with exchange(authority, answer_all) as (server, endpoint, site):
        with pytest.raises(TlsRefused):
            await server.join(Endpoint(endpoint.url, exceptions=LAB), ANNA, "https://x/", 30, 5)
        assert site.requests == []


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/EWS", "https://nowhere.invalid/"])
async def test_nobody_there(url: str) -> None:
    server = EwsServer("0.1.0")
    with pytest.raises(Unreachable):
        await server.join(Endpoint(url, exceptions=LAB), ANNA, "https://x/", 30, 5)
    await server.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "https://u:p@127.0.0.1/", "https://[::1/", "nonsense", ""]
)
async def test_addresses_that_are_none(url: str) -> None:
    server = EwsServer("0.1.0")
    with pytest.raises(NotEws):
        await server.join(Endpoint(url, exceptions=LAB), ANNA, "https://x/", 30, 5)
    with pytest.raises(NotEws):
        endpoint = Endpoint(url, exceptions=LAB)
        await server.describe(endpoint, ANNA, ["1"], False, 5, Extras(preview=True))
    assert server.products(url) == ()
    await server.close()


async def test_users_share_connections_and_nothing_else(authority: Authority) -> None:
    bert = Credentials("basic", "bert", "other")
    async with exchange(authority, answer_all) as (server, endpoint, site):
        for credentials in (ANNA, bert, ANNA):
            await server.join(endpoint, credentials, "https://ens.example/", 30, 5)
        assert site.connections == 1
    names = [b64decode(s.headers["authorization"][6:]).split(b":")[0] for s in site.requests]
    assert names == ["EXAMPLE\\ännä".encode(), b"bert", "EXAMPLE\\ännä".encode()]


async def test_tracebacks_tell_no_secrets(authority: Authority) -> None:
    raw = soap(answers.fault("ErrorAccessDenied"), 500)
    hush = Credentials("basic", "hushname", "hushword")
    async with exchange(authority, always(raw)) as (server, endpoint, _):
        with pytest.raises(Forbidden) as caught:
            await server.prove(endpoint, hush, "hushaddress@example.com", 2)
        shown = "".join(traceback.format_exception(caught.value))
        assert "hushname" not in shown
        assert "hushaddress@example.com\n" not in shown.replace('"hushaddress@example.com"', "")
        assert endpoint.url not in shown
