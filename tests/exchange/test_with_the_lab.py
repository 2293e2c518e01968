"""EwsServer against the lab's pretend Exchange, over real TLS: what a demo needs, end to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network

import pytest

from apps.exchange.errors import (
    CredentialsRefused,
    MailboxNotFound,
    NotThisMailbox,
    ServerBusy,
    SubscriptionUrlRefused,
    TooManySubscriptions,
    Unreachable,
)
from apps.exchange.ews.notification import parse_notification
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint, Extras
from apps.lab.exchange import LabExchange
from apps.lab.exchange.model import KINDS
from tests.lab.ews_schema import violations
from tests.lab.exchange_helpers import Webhook, until

ANNA = Credentials("basic", "EXAMPLE\\anna", "anna-lab-1")
BEN = Credentials("basic", "ben@example.com", "ben-lab-2")


@pytest.fixture
async def lab() -> AsyncIterator[LabExchange]:
    said: list[bytes] = []
    lab = LabExchange(on_message=lambda _direction, body: said.append(body), max_subscriptions=2)
    lab.add_demo_accounts()
    async with lab:
        yield lab
    assert [fault for body in said for fault in violations(body)] == []


@pytest.fixture
async def server() -> AsyncIterator[EwsServer]:
    server = EwsServer("0.1.0")
    yield server
    await server.close()


@pytest.fixture
def endpoint(lab: LabExchange) -> Endpoint:
    return Endpoint(lab.url, lab.ca_pem, exceptions=(ip_network("127.0.0.0/8"),))


class TestProof:
    async def test_ones_own_address_any_case_and_alias(
        self, server: EwsServer, endpoint: Endpoint
    ) -> None:
        proofs = {
            await server.prove(endpoint, ANNA, address, 5)
            for address in ("anna@example.com", "Anna@Example.COM", "a.adler@example.com")
        }
        assert len(proofs) == 1
        assert proofs != {await server.prove(endpoint, BEN, "ben@example.com", 5)}

    async def test_a_stranger_and_an_address_that_is_none(
        self, server: EwsServer, endpoint: Endpoint
    ) -> None:
        for address in ("anna@example.com", "<&>\"'\x00", ""):
            with pytest.raises(NotThisMailbox):
                await server.prove(endpoint, BEN, address, 5)
        for address in ("nobody@example.com", "<&>\"'\x00@example.com"):
            with pytest.raises(MailboxNotFound):
                await server.prove(endpoint, BEN, address, 5)

    @pytest.mark.parametrize("strict", [False, True])
    async def test_a_changed_primary_address_and_an_alias(
        self, strict: bool, endpoint: Endpoint
    ) -> None:
        """An alias is proved whether Exchange takes it or asks for the primary address."""
        async with LabExchange(strict_aliases=strict) as lab:
            lab.add_demo_accounts()
            endpoint = Endpoint(lab.url, ca_pem=lab.ca_pem, exceptions=endpoint.exceptions)
            server = EwsServer("0.1.0")
            lab.change_address("anna@example.com", "anna.miller@example.com")
            addresses = ["anna.miller@example.com", "anna@example.com", "A.Adler@example.com"]
            proofs = {await server.prove(endpoint, ANNA, one, 5) for one in addresses}
            assert len(proofs) == 1
            for address in addresses:
                with pytest.raises(NotThisMailbox):
                    await server.prove(endpoint, BEN, address, 5)
            lab.change_address("anna.miller@example.com", "a.m@example.com", keep_old=False)
            with pytest.raises(MailboxNotFound):
                await server.prove(endpoint, ANNA, "anna.miller@example.com", 5)
            assert {await server.prove(endpoint, ANNA, "a.m@example.com", 5)} == proofs
            asked = lab.counters()["calls"]["GetFolder"]
            # An alias costs one call more where the primary address is asked for.
            assert asked == (8 + 4 if strict else 8)
            await server.close()

    @pytest.mark.parametrize("folder", ["inbox", ""], ids=["reviewer", "full access"])
    async def test_rights_are_not_ownership(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint, folder: str
    ) -> None:
        lab.grant("anna@example.com", "ben@example.com", folder)
        for address in ("anna@example.com", "a.adler@example.com"):
            with pytest.raises(NotThisMailbox):
                await server.prove(endpoint, BEN, address, 5)

    async def test_a_wrong_password_is_tried_once(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        wrong = Credentials("basic", ANNA.username, "guess")
        with pytest.raises(CredentialsRefused):
            await server.prove(endpoint, wrong, "anna@example.com", 5)
        assert sum(lab.counters()["unauthorized"].values()) == 1

    async def test_a_busy_server_proves_nothing(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        lab.faults.add("busy", 60, back_off_ms=12_000)
        with pytest.raises(ServerBusy) as caught:
            await server.prove(endpoint, ANNA, "anna@example.com", 5)
        assert caught.value.back_off_s == 12


class TestJoin:
    async def test_events_come_to_the_webhook(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        async with Webhook() as hook:
            joined = await server.join(endpoint, ANNA, hook.url, 30, 5)
            item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
            await until(lambda: "NewMail" in [kind for n in hook.got for kind in n.kinds])
            lab.mark_read(item_id)
            await until(lambda: any(b"UnreadCount>0<" in n.raw for n in hook.got))
            lab.fail_subscription(joined.subscription_id)
            await until(lambda: b"ErrorReadEventsFailed" in hook.got[-1].raw)
        told = [parse_notification(notification.raw) for notification in hook.got]
        assert {notification.subscription_id for notification in told} == {joined.subscription_id}
        events = [event for notification in told for event in notification.events]
        new = next(event for event in events if event.kind == "NewMail")
        own = (await server.describe(endpoint, ANNA, [item_id], False, 5)).items[item_id]
        assert (new.item_id, new.parent_folder_id) == (item_id, own.parent_folder_id)
        assert 0 in {event.unread_count for event in events if event.kind == "Modified"}
        assert told[-1].error_code == "ErrorReadEventsFailed"

    async def test_a_url_that_is_too_long(self, server: EwsServer, endpoint: Endpoint) -> None:
        async with Webhook() as hook:
            longest = f"{hook.url}?".ljust(2082, "x")
            await server.join(endpoint, ANNA, longest, 30, 5)
            with pytest.raises(SubscriptionUrlRefused):
                await server.join(endpoint, ANNA, longest + "x", 30, 5)

    async def test_too_many(self, server: EwsServer, endpoint: Endpoint) -> None:
        async with Webhook() as hook:
            for _ in range(2):
                await server.join(endpoint, ANNA, hook.url, 30, 5)
            with pytest.raises(TooManySubscriptions):
                await server.join(endpoint, ANNA, hook.url, 30, 5)


class TestDescribe:
    async def test_mail_and_meetings(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        ids = [
            lab.deliver("anna@example.com", "Ben <&>", "ben@example.com", f"{kind} ☕", kind=kind)
            for kind in KINDS
        ]
        gone = lab.deliver("anna@example.com", "Ben", "ben@example.com", "gone")
        lab.delete(gone)
        described = await server.describe(endpoint, ANNA, [*ids, gone], True, 5)
        assert list(described.items) == ids
        items = described.items.values()
        assert [item.kind for item in items] == [
            "message",
            "meeting_request",
            "meeting_response",
            "meeting_cancellation",
        ]
        assert [item.subject for item in items] == [f"{kind} ☕" for kind in KINDS]
        assert {(item.sender_name, item.sender_address) for item in items} == {
            ("Ben <&>", "ben@example.com")
        }
        inbox = (await server.prove(endpoint, ANNA, "anna@example.com", 5)).inbox_id
        assert {item.parent_folder_id for item in items} == {inbox}
        assert described.unread_count == 4

    async def test_previews_and_conversations_where_wanted(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        ids = [
            lab.deliver("anna@example.com", "Ben", "ben@example.com", subject, "Hi Anna")
            for subject in ("Lunch", "Re: Lunch", "Dinner")
        ]
        extras = Extras(preview=True, conversation=True)
        items = (await server.describe(endpoint, ANNA, ids, False, 5, extras)).items
        assert {item.preview for item in items.values()} == {"Hi Anna"}
        first, answer, other = (item.conversation_id for item in items.values())
        assert first == answer != other
        plain = (await server.describe(endpoint, ANNA, ids, False, 5)).items
        assert {(item.preview, item.conversation_id) for item in plain.values()} == {("", "")}

    async def test_somebody_else_s_item_is_not_described(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "secret")
        described: object = None
        try:
            described = await server.describe(endpoint, BEN, [item_id], False, 5)
        except Exception as error:
            assert "secret" not in repr(error)
        assert "secret" not in str(getattr(described, "items", {}).values())

    async def test_a_changed_password(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Hi")
        lab.set_password("anna@example.com", "new")
        with pytest.raises(CredentialsRefused):
            await server.describe(endpoint, ANNA, [item_id], True, 5)

    async def test_a_server_that_hangs_and_one_that_is_away(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Hi")
        lab.faults.add("hang", 60)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await server.describe(endpoint, ANNA, [item_id], True, 0.4)
        assert time.monotonic() - began < 1
        lab.faults.clear()
        lab.faults.add("unavailable", 60)
        with pytest.raises(ServerBusy):
            await server.describe(endpoint, ANNA, [item_id], True, 5)

    async def test_many_users_at_once(
        self, lab: LabExchange, server: EwsServer, endpoint: Endpoint
    ) -> None:
        asked = []
        for number in range(20):
            user, password = f"user{number}", f"password-{number}"
            lab.add_mailbox(f"{user}@example.com", user, password)
            item_id = lab.deliver(f"{user}@example.com", "Ben", "ben@example.com", user)
            asked.append((Credentials("basic", f"EXAMPLE\\{user}", password), item_id))
        answers = await asyncio.gather(
            *(
                server.describe(endpoint, credentials, [item_id], True, 10)
                for credentials, item_id in asked * 3
            )
        )
        subjects = [item.subject for answer in answers for item in answer.items.values()]
        assert subjects == [f"user{number}" for number in range(20)] * 3
        assert {answer.unread_count for answer in answers} == {1}


async def test_newest_unread(lab: LabExchange, server: EwsServer, endpoint: Endpoint) -> None:
    before = lab.clock.now() - timedelta(minutes=1)
    ids = []
    for number in range(4):
        ids.append(lab.deliver("anna@example.com", "Ben", "ben@example.com", str(number)))
        await asyncio.sleep(0.01)
    lab.mark_read(ids[1])
    items = await server.newest_unread(endpoint, ANNA, before, 10, 5)
    assert sorted(item.subject for item in items) == ["0", "2", "3"]
    assert {item.sender_address for item in items} == {"ben@example.com"}
    assert len(await server.newest_unread(endpoint, ANNA, before, 2, 5)) == 2
    later = lab.clock.now() + timedelta(minutes=1)
    assert await server.newest_unread(endpoint, ANNA, later, 10, 5) == []
