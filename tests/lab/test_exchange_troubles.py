"""What a real Exchange does to its clients on a bad day: forget, move, refuse, lock out, vanish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from apps.lab.exchange import Clock, LabExchange

from .exchange_helpers import Webhook, ews, subscribe_request, until

ANNA, BEN = "anna@example.com", "ben@example.com"
GET_INBOX = (
    "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>"
    '<m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder>'
)


@pytest.fixture
async def lab() -> AsyncIterator[LabExchange]:
    """A lab minute takes a tenth of a second."""
    lab = LabExchange(clock=Clock(scale=600))
    lab.add_demo_accounts()
    async with lab:
        yield lab


async def control(lab: LabExchange, path: str, **body: Any) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{lab.control}/lab/{path}", json=body) as response,
    ):
        return response.status, await response.json()


async def subscribe(lab: LabExchange, webhook: Webhook) -> str:
    reply = await ews(lab, subscribe_request(webhook.url))
    assert reply.codes == ["NoError"]
    return str(lab.subscriptions()["subscriptions"][-1]["id"])


async def test_a_lost_subscription_is_silent() -> None:
    async with LabExchange() as lab, Webhook() as webhook:
        lab.add_demo_accounts()
        kept, lost = await subscribe(lab, webhook), await subscribe(lab, webhook)
        told = len(webhook.got)
        answer = await control(lab, "subscriptions/lose", subscription_id=lost)
        assert answer == (200, {"lost": [{"id": lost, "mailbox": ANNA}]})
        lab.deliver(ANNA, "Ben", BEN, "Hello")
        await until(lambda: len(webhook.got) > told)
        await asyncio.sleep(0.2)
        assert len(webhook.got) == told + 1
        assert [held["id"] for held in lab.subscriptions()["subscriptions"]] == [kept]
        assert lab.subscriptions()["ended"] == {"dropped": 1}
        status, _ = await control(lab, "subscriptions/lose", subscription_id=lost)
        assert status == 400


async def test_a_share_of_all_is_lost_the_same_with_the_same_seed(lab: LabExchange) -> None:
    async with Webhook() as webhook:
        ids = [await subscribe(lab, webhook) for _ in range(10)]
        status, answer = await control(lab, "subscriptions/lose", share=0.25, seed=7)
        lost = {gone["id"] for gone in answer["lost"]}
        assert (status, len(lost)) == (200, 3)
        assert lab.subscriptions()["total"] == 7
        assert lost < set(ids)
        assert (await control(lab, "subscriptions/lose", share=2))[0] == 400
        assert (await control(lab, "subscriptions/lose"))[0] == 400


async def test_a_moving_mailbox_loses_its_subscriptions_and_comes_back(lab: LabExchange) -> None:
    async with Webhook() as webhook:
        await subscribe(lab, webhook)
        assert (await control(lab, "mailboxes/move", address=ANNA, seconds=300))[0] == 200
        assert lab.subscriptions()["total"] == 0
        reply = await ews(lab, GET_INBOX)
        assert (reply.status, b"ErrorMailboxMoveInProgress" in reply.body) == (500, True)
        other = await ews(lab, GET_INBOX, "EXAMPLE\\ben", "ben-lab-2")
        assert other.codes == ["NoError"]
        await asyncio.sleep(0.6)
        assert (await ews(lab, GET_INBOX)).codes == ["NoError"]


async def test_five_wrong_passwords_lock_the_account(lab: LabExchange) -> None:
    lab.set_password(ANNA, "new")
    for _ in range(4):
        assert (await ews(lab, GET_INBOX)).status == 401
    assert (await ews(lab, GET_INBOX, password="new")).status == 200
    for _ in range(5):
        assert (await ews(lab, GET_INBOX)).status == 401
    assert (await ews(lab, GET_INBOX, password="new")).status == 401
    counted = lab.counters()
    assert counted["lockouts"] == {ANNA: 1}
    assert counted["refused_while_locked"] == {ANNA: 1}
    assert counted["unauthorized"] == {ANNA: 10}
    await asyncio.sleep(3.1)  # half an hour
    assert (await ews(lab, GET_INBOX, password="new")).status == 200


async def test_a_password_reset_lets_in_again(lab: LabExchange) -> None:
    for _ in range(5):
        await ews(lab, GET_INBOX, password="wrong")
    lab.set_password(ANNA, "new")
    assert (await ews(lab, GET_INBOX, password="new")).status == 200


async def test_the_network_is_gone_for_a_while() -> None:
    async with LabExchange(clock=Clock(scale=30)) as lab, Webhook() as webhook:
        lab.add_demo_accounts()
        await subscribe(lab, webhook)
        told = len(webhook.got)
        assert (await control(lab, "network/drop", seconds=15))[0] == 200
        await asyncio.sleep(0.05)
        lab.deliver(ANNA, "Ben", BEN, "Hello")
        with pytest.raises(aiohttp.ClientError):
            await ews(lab, GET_INBOX)
        assert len(webhook.got) == told
        await asyncio.sleep(0.6)
        assert (await ews(lab, GET_INBOX)).codes == ["NoError"]
        await until(lambda: len(webhook.got) == told + 1)
        assert lab.counters()["notifications"]["unanswered"] == 1


async def test_a_dropped_network_resets_what_is_under_way() -> None:
    async with LabExchange() as lab:
        lab.add_demo_accounts()
        lab.faults.add("slow", 60, delay_s=30)
        call = asyncio.create_task(ews(lab, GET_INBOX))
        await until(lambda: lab.counters()["calls"].get("GetFolder") == 1)
        began = time.monotonic()
        lab.drop_network(0.2)
        with pytest.raises(aiohttp.ClientError):
            await call
        assert time.monotonic() - began < 5


async def test_a_restart_forgets_all_subscriptions_and_keeps_the_mail(lab: LabExchange) -> None:
    async with Webhook() as webhook:
        await subscribe(lab, webhook)
        lab.deliver(ANNA, "Ben", BEN, "Hello")
        assert (await control(lab, "restart", seconds=60))[0] == 200
        await asyncio.sleep(0.3)
        assert lab.subscriptions() == {
            "total": 0,
            "by_mailbox": {},
            "subscriptions": [],
            "ended": {"restarted": 1},
        }
        assert len(lab.items(ANNA)) == 1
        await subscribe(lab, webhook)


async def test_clocks_of_the_same_origin_agree() -> None:
    origin = time.time() - 10
    one = Clock(100, origin)
    await asyncio.sleep(0.05)
    other = Clock(100, origin)
    assert abs((one.now() - other.now()).total_seconds()) < 1
    assert 1000 <= one.now().timestamp() - origin < 1100
