"""Push delivery as Exchange does it: order, retries, StatusEvents, ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from apps.lab.ca import LabCa
from apps.lab.exchange import Clock, LabExchange

from .ews_schema import violations
from .exchange_helpers import REPLY, M, T, Webhook, ews, subscribe_request, until

ANNA = "anna@example.com"


class Valid:
    """Notes all that is said, and at the end what the schema has against it."""

    def __init__(self) -> None:
        self.talk: list[tuple[str, bytes]] = []

    def __call__(self, direction: str, body: bytes) -> None:
        self.talk.append((direction, body))

    def check(self) -> None:
        assert [(d, wrong) for d, body in self.talk for wrong in violations(body)] == []


@pytest.fixture
async def said() -> AsyncIterator[Valid]:
    valid = Valid()
    yield valid
    valid.check()


@pytest.fixture
async def lab(said: Valid) -> AsyncIterator[LabExchange]:
    lab = LabExchange(on_message=said, max_subscriptions=3)
    lab.add_demo_accounts()
    async with lab:
        yield lab


@pytest.fixture
async def fast(said: Valid) -> AsyncIterator[LabExchange]:
    """A minute takes a fifth of a second."""
    lab = LabExchange(on_message=said, clock=Clock(scale=300))
    lab.add_demo_accounts()
    async with lab:
        yield lab


async def subscribe(lab: LabExchange, url: str, frequency: int = 30) -> str:
    reply = await ews(lab, subscribe_request(url, frequency))
    assert reply.codes == ["NoError"], reply.body
    return str(reply.xml.findtext(f".//{M}SubscriptionId"))


def deliver(lab: LabExchange, subject: str = "Hello", **more: object) -> str:
    return lab.deliver(ANNA, "Ben", "ben@example.com", subject, **more)  # type: ignore[arg-type]


async def test_a_new_mail_is_three_events_in_one_message(lab: LabExchange) -> None:
    async with Webhook() as hook:
        subscription = await subscribe(lab, hook.url)
        item = deliver(lab)
        _, told = await hook.wait_for(2)
    assert told.kinds == ["NewMail", "Created", "Modified"]
    assert told.raw.startswith(b"<?xml") and b"<soap11:Envelope" in told.raw
    assert told.xml.find(f".//{T}RequestServerVersion").get("Version") == "Exchange2010_SP2"
    assert told.text("SubscriptionId") == subscription
    assert told.text("MoreEvents") == "false"
    new_mail, created, modified = (event for _, event in told.events)
    assert new_mail.find(f"{T}ItemId").get("Id") == item == created.find(f"{T}ItemId").get("Id")
    assert modified.find(f"{T}FolderId").get("Id") == new_mail.find(f"{T}ParentFolderId").get("Id")
    assert modified.findtext(f"{T}UnreadCount") == "1"


async def test_reading_moving_deleting_are_told(lab: LabExchange) -> None:
    item, other = deliver(lab), deliver(lab)
    async with Webhook() as hook:
        await subscribe(lab, hook.url)
        lab.mark_read(item)
        await hook.wait_for(2)
        moved = lab.move(item, "junkemail")
        await hook.wait_for(3)
        lab.mark_read(moved, False)  # in a folder nobody subscribed to
        lab.delete(other)
        await hook.wait_for(4)
        lab.move(moved, "inbox")
        read, away, gone, back = (await hook.wait_for(5))[1:]
    assert read.kinds == ["Modified", "Modified"]
    assert read.text("UnreadCount") == "1"
    assert away.kinds == ["Moved", "Modified"]
    assert away.xml.find(f".//{T}OldItemId").get("Id") == item
    assert away.xml.find(f".//{T}ItemId").get("Id") == moved != item
    assert gone.kinds == ["Deleted", "Modified"]
    assert gone.text("UnreadCount") == "0"
    assert back.kinds == ["Moved", "Modified"]
    assert back.text("UnreadCount") == "1"


async def test_one_call_in_flight_in_order_without_gaps(lab: LabExchange) -> None:
    async with Webhook() as hook:
        await subscribe(lab, hook.url)
        hook.delay_s = 0.02
        sent = []
        for number in range(120):
            sent.append(deliver(lab, str(number)))
            if number % 40 == 0:
                await asyncio.sleep(0.01)
        arrived: list[str | None] = []

        def new_mails() -> list[str | None]:
            return [
                event.find(f"{T}ItemId").get("Id")
                for told in hook.got
                for kind, event in told.events
                if kind == "NewMail"
            ]

        await until(lambda: len(new_mails()) == len(sent))
        arrived = new_mails()
        told = list(hook.got)
    assert arrived == sent
    assert hook.most_in_flight == 1
    assert len(told) < 60  # several events a message
    assert "true" in {notification.text("MoreEvents") for notification in told}
    for before, after in itertools.pairwise(told):
        last = [event.findtext(f"{T}Watermark") for _, event in before.events][-1]
        assert after.text("PreviousWatermark") == last


async def test_the_first_call_comes_before_subscribe_is_answered(lab: LabExchange) -> None:
    async with Webhook(delay_s=0.3) as hook:
        asked = asyncio.create_task(subscribe(lab, hook.url))
        await hook.wait_for(1)
        assert not asked.done()
        deliver(lab, "meanwhile")
        assert hook.got[0].text("SubscriptionId") == await asked
        first, second = await hook.wait_for(2)
    assert first.kinds == ["Status"]
    assert second.kinds == ["NewMail", "Created", "Modified"]
    assert first.text("Watermark") == second.text("PreviousWatermark")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (500, "ErrorInvalidPushSubscriptionUrl"),
        ("Later", "ErrorInvalidPushSubscriptionUrl"),
        ("Unsubscribe", "ErrorSubscriptionUnsubscribed"),
    ],
)
async def test_a_webhook_that_does_not_say_ok_gets_nothing(
    lab: LabExchange, answer: str | int, code: str
) -> None:
    async with Webhook(answer=lambda _: answer) as hook:
        if answer == "Later":
            lab._hub._journal._hook = None  # an answer that no schema allows
        reply = await ews(lab, subscribe_request(hook.url))
        assert reply.codes == [code]
        deliver(lab)
        await asyncio.sleep(0.1)
        assert len(hook.got) == 1
    assert lab.subscriptions()["total"] == 0


async def test_urls_longer_than_2082_are_refused(lab: LabExchange) -> None:
    async with Webhook() as hook:
        longest = f"{hook.url}?creds=".ljust(2082, "x")
        await subscribe(lab, longest)
        reply = await ews(lab, subscribe_request(longest + "x"))
    assert reply.codes == ["ErrorInvalidPushSubscriptionUrl"]


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/", "ftp://127.0.0.1/", "http:///", "nonsense", "http://[::ffff:a/"]
)
async def test_only_this_machine_is_called(lab: LabExchange, url: str) -> None:
    reply = await ews(lab, subscribe_request(url))
    assert reply.codes == ["ErrorInvalidPushSubscriptionUrl"]


async def test_subscriptions_are_limited_per_user(lab: LabExchange) -> None:
    async with Webhook() as hook:
        for _ in range(3):
            await subscribe(lab, hook.url)
        reply = await ews(lab, subscribe_request(hook.url))
        assert reply.codes == ["ErrorExceededSubscriptionCount"]
        reply = await ews(lab, subscribe_request(hook.url), "ben@example.com", "ben-lab-2")
        assert reply.codes == ["NoError"]


async def test_the_unsubscribe_operation_ends_nothing(lab: LabExchange) -> None:
    async with Webhook() as hook:
        known = await subscribe(lab, hook.url)
        for name, user, password, code in (
            (known, "EXAMPLE\\anna", "anna-lab-1", "ErrorInvalidPullSubscriptionId"),
            (known, "EXAMPLE\\ben", "ben-lab-2", "ErrorSubscriptionAccessDenied"),
            (known.lower(), "EXAMPLE\\anna", "anna-lab-1", "ErrorSubscriptionNotFound"),
        ):
            request = f"<m:Unsubscribe><m:SubscriptionId>{name}</m:SubscriptionId></m:Unsubscribe>"
            assert (await ews(lab, request, user, password)).codes == [code]
    assert lab.subscriptions()["total"] == 1


async def test_unsubscribe_as_an_answer_is_obeyed(lab: LabExchange) -> None:
    async with Webhook() as hook:
        await subscribe(lab, hook.url)
        hook.answer = lambda _: "Unsubscribe"
        deliver(lab)
        await until(lambda: lab.subscriptions()["total"] == 0)
        deliver(lab)
        await asyncio.sleep(0.1)
        assert len(hook.got) == 2
    assert lab.subscriptions()["ended"] == {"unsubscribed": 1}


async def test_the_retry_table_then_silent_death(fast: LabExchange) -> None:
    """At 4 minutes: after 30 s, 1 and 2 minutes; the next, 4 minutes, isn't below that."""
    async with Webhook() as hook:
        await subscribe(fast, hook.url, frequency=4)
        hook.answer = lambda _: 503
        deliver(fast)
        await until(lambda: fast.subscriptions()["total"] == 0)
        tries = hook.got[1:]
        gaps = [
            (later.at - sooner.at) * fast.clock.scale for sooner, later in itertools.pairwise(tries)
        ]
        deliver(fast)
        await asyncio.sleep(0.1)
        assert len(hook.got) == 5
    assert [pytest.approx(gap, abs=25) for gap in (30, 60, 120)] == gaps
    assert {told.text("PreviousWatermark") for told in tries} == {hook.got[0].text("Watermark")}
    assert fast.subscriptions()["ended"] == {"dead": 1}


async def test_a_retry_brings_what_came_meanwhile_and_starts_the_table_anew(
    fast: LabExchange,
) -> None:
    async with Webhook() as hook:
        await subscribe(fast, hook.url, frequency=4)
        hook.answer = lambda _: 503
        deliver(fast, "first")
        await hook.wait_for(2)
        deliver(fast, "second")
        hook.answer = lambda _: "OK"
        told = (await hook.wait_for(3))[2]
        assert told.kinds == ["NewMail", "Created", "Modified"] * 2
        [state] = fast.subscriptions()["subscriptions"]
        await until(lambda: fast.subscriptions()["subscriptions"][0]["waiting"] == 0)
        assert fast.subscriptions()["subscriptions"][0]["failures"] == 0
        assert state["mailbox"] == ANNA


async def test_status_events_only_when_nothing_else_happened(fast: LabExchange) -> None:
    async with Webhook() as hook:
        await subscribe(fast, hook.url, frequency=2)
        for _ in range(4):
            await asyncio.sleep(0.25)  # 75 s: never two minutes without an event
            deliver(fast)
        assert "Status" not in {kind for told in hook.got[1:] for kind in told.kinds}
        before = len(hook.got)
        told = (await hook.wait_for(before + 2))[-2:]
    assert [notification.kinds for notification in told[-1:]] == [["Status"]]
    assert told[-1].text("Watermark") == told[-1].text("PreviousWatermark")
    gap = (told[-1].at - told[-2].at) * fast.clock.scale
    assert gap == pytest.approx(120, abs=40)


async def test_an_error_notification_ends_the_subscription(lab: LabExchange) -> None:
    async with Webhook() as hook:
        subscription = await subscribe(lab, hook.url)
        lab.fail_subscription(subscription)
        told = (await hook.wait_for(2))[1]
        await until(lambda: lab.subscriptions()["total"] == 0)
    message = told.xml.find(f".//{M}SendNotificationResponseMessage")
    assert message.get("ResponseClass") == "Error"
    assert message.findtext(f"{M}ResponseCode") == "ErrorReadEventsFailed"
    assert message.findtext(f"{M}MessageXml/{T}Value") == subscription
    assert told.text("SubscriptionId") == subscription


async def test_the_bare_error_names_the_subscription_in_message_xml_only() -> None:
    lab = LabExchange()
    lab.add_demo_accounts()
    async with lab, Webhook() as hook:
        subscription = await subscribe(lab, hook.url)
        hook.answer = lambda _: 503
        lab.fail_subscription(subscription, bare=True)
        told = (await hook.wait_for(2))[1]
        await until(lambda: lab.subscriptions()["total"] == 0)
    assert told.xml.find(f".//{M}Notification") is None
    assert told.xml.findtext(f".//{M}MessageXml/{T}Value") == subscription
    assert violations(told.raw) != []


async def test_calls_https_webhooks_that_the_lab_ca_signed(tmp_path: Path) -> None:
    ca = LabCa(tmp_path)
    lab = LabExchange(ca=ca)
    lab.add_demo_accounts()

    async def hook(_: web.Request) -> web.Response:
        return web.Response(text=REPLY.format("OK"), content_type="text/xml")

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        context = ca.issue("webhook").server_context()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://localhost:{runner.addresses[0][1]}/hook"
        async with lab:
            await subscribe(lab, url)
        async with LabExchange() as stranger:
            stranger.add_demo_accounts()
            reply = await ews(stranger, subscribe_request(url))
            assert reply.codes == ["ErrorInvalidPushSubscriptionUrl"]
    finally:
        await runner.cleanup()


async def test_a_folder_of_another_needs_rights(lab: LabExchange) -> None:
    async with Webhook() as hook:
        request = subscribe_request(hook.url).replace(
            '<t:DistinguishedFolderId Id="inbox"/>',
            '<t:DistinguishedFolderId Id="inbox"><t:Mailbox>'
            f"<t:EmailAddress>{ANNA}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>",
        )
        async with aiohttp.ClientSession() as session:
            login = ("EXAMPLE\\ben", "ben-lab-2")
            reply = await ews(lab, request, *login, session=session)
            assert reply.codes == ["ErrorAccessDenied"]
            lab.grant(ANNA, "ben@example.com", "inbox")
            reply = await ews(lab, request, *login, session=session)
            assert reply.codes == ["NoError"]
        deliver(lab)
        assert (await hook.wait_for(2))[1].kinds == ["NewMail", "Created", "Modified"]
    assert lab.subscriptions()["by_mailbox"] == {ANNA: 1}


async def test_a_kept_connection_that_was_closed_costs_no_retry(lab: LabExchange) -> None:
    """The webhook takes one call a connection, and closes it at the second without a word."""
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        calls += 1
        body = REPLY.format("OK").encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%b"
        writer.write(answer % (len(body), body))
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        await subscribe(lab, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        deliver(lab)
        await until(lambda: lab.counters()["notifications"].get("OK") == 2)
    finally:
        server.close()
    assert calls == 2
    assert "unanswered" not in lab.counters()["notifications"]


async def test_endless_replies_are_cut_off(lab: LabExchange) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/xml"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except ConnectionError:
            return response

    app = web.Application()
    app.router.add_post("/hook", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        reply = await asyncio.wait_for(ews(lab, subscribe_request(url)), 5)
    finally:
        await runner.cleanup()
    assert reply.codes == ["ErrorInvalidPushSubscriptionUrl"]
