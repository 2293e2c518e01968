"""The control API: what the live page and tests in other processes use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from apps.lab.exchange import LabExchange

from .exchange_helpers import Webhook, ews, subscribe_request, until

ANNA = "anna@example.com"


@pytest.fixture
async def lab() -> AsyncIterator[LabExchange]:
    lab = LabExchange()
    lab.add_demo_accounts()
    async with lab:
        yield lab


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Control:
    """Calls the control API and hands back what it says."""

    def __init__(self, lab: LabExchange, session: aiohttp.ClientSession) -> None:
        self._base, self._session = lab.control, session

    async def get(self, path: str) -> Any:
        async with self._session.get(self._base + path) as response:
            assert response.status == 200
            return await response.json()

    async def post(self, path: str, status: int = 200, **body: object) -> Any:
        async with self._session.post(self._base + path, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()


@pytest.fixture
def control(lab: LabExchange, session: aiohttp.ClientSession) -> Control:
    return Control(lab, session)


MAIL = {"to": ANNA, "from_name": "Ben", "from_address": "ben@example.com", "subject": "Lunch?"}


async def test_a_mail_comes_is_read_moved_and_deleted(control: Control) -> None:
    item = (await control.post("/lab/deliver", **MAIL, body="Now"))["item_id"]
    [mail] = (await control.get(f"/lab/mailboxes/{ANNA}/items"))["items"]
    assert mail["item_id"] == item
    assert (mail["subject"], mail["from_name"], mail["is_read"]) == ("Lunch?", "Ben", False)
    await control.post("/lab/read", item_id=item)
    [anna, *_] = (await control.get("/lab/mailboxes"))["mailboxes"]
    assert (anna["address"], anna["unread"], anna["total"]) == (ANNA, 0, 1)
    await control.post("/lab/read", item_id=item, read=False)
    moved = (await control.post("/lab/move", item_id=item, folder="junkemail"))["item_id"]
    assert moved != item
    found = await control.get(f"/lab/mailboxes/{ANNA}/items?folder=junkemail")
    assert [entry["item_id"] for entry in found["items"]] == [moved]
    await control.post("/lab/delete", item_id=moved)
    assert await control.post("/lab/delete", 400, item_id=moved) == {"error": "ErrorItemNotFound"}


async def test_meeting_requests_can_be_injected(control: Control) -> None:
    await control.post("/lab/deliver", **MAIL, kind="MeetingRequest", is_read=True)
    [item] = (await control.get(f"/lab/mailboxes/{ANNA}/items"))["items"]
    assert (item["kind"], item["is_read"]) == ("MeetingRequest", True)
    assert await control.post("/lab/deliver", 400, **MAIL, kind="Task") == {"error": "malformed"}


async def test_tells_subscriptions_without_their_urls(lab: LabExchange, control: Control) -> None:
    async with Webhook() as hook:
        await ews(lab, subscribe_request(f"{hook.url}?creds=SECRET"))
        told = await control.get("/lab/subscriptions")
        assert (told["total"], told["by_mailbox"]) == (1, {ANNA: 1})
        assert "SECRET" not in str(told)
        [subscription] = told["subscriptions"]
        await control.post("/lab/subscriptions/fail", subscription_id=subscription["id"])
        await until(lambda: lab.subscriptions()["total"] == 0)
        again = await control.post(
            "/lab/subscriptions/fail", 400, subscription_id=subscription["id"]
        )
    assert again == {"error": "ErrorSubscriptionNotFound"}
    counters = await control.get("/lab/counters")
    assert counters["calls"] == {"Subscribe": 1}
    assert counters["notifications"] == {"OK": 2}


async def test_makes_mailboxes_rights_passwords_and_faults(
    lab: LabExchange, control: Control, session: aiohttp.ClientSession
) -> None:
    await control.post("/lab/mailboxes", address="eva@example.com", name="Eva", password="one")
    await control.post("/lab/password", address="eva@example.com", password="two")
    await control.post("/lab/rights", mailbox=ANNA, user="eva@example.com", folder="inbox")
    folder = (
        "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>"
        '<m:FolderIds><t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>'
        f"{ANNA}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></m:FolderIds></m:GetFolder>"
    )
    assert (await ews(lab, folder, "eva@example.com", "one")).status == 401
    assert (await ews(lab, folder, "eva@example.com", "two")).codes == ["NoError"]
    await control.post("/lab/faults", kind="unavailable", seconds=60)
    assert (await ews(lab, folder, "eva@example.com", "two")).status == 503
    async with session.delete(f"{lab.control}/lab/faults") as response:
        assert response.status == 200
    assert (await ews(lab, folder, "eva@example.com", "two")).status == 200
    moved = {"kind": "error", "seconds": 60, "code": "ErrorMailboxStoreUnavailable"}
    await control.post("/lab/faults", **moved, address=ANNA)
    assert (await ews(lab, folder, "eva@example.com", "two")).codes == ["NoError"]
    await control.post("/lab/faults", **moved, operations=["GetFolder"])
    assert (await ews(lab, folder, "eva@example.com", "two")).status == 500
    await control.post("/lab/faults", status=400, kind="error", seconds=60, code="ErrorMadeUp")


async def test_gives_a_mailbox_another_address(lab: LabExchange, control: Control) -> None:
    await control.post("/lab/address", address=ANNA, new="a.miller@example.com")
    [anna] = [box for box in lab.mailboxes() if "miller" in box["address"]]
    assert ANNA in anna["aliases"]
    await control.post("/lab/address", address=ANNA, new="x@example.com", keep_old=False)
    await control.post("/lab/deliver", **MAIL)
    await control.post("/lab/deliver", status=400, **{**MAIL, "to": "a.miller@example.com"})
    await control.post("/lab/address", status=400, address=ANNA, new="ben@example.com")


async def test_refuses_foreign_hosts_and_bodies(
    lab: LabExchange, session: aiohttp.ClientSession
) -> None:
    url = f"{lab.control}/lab/deliver"
    async with session.post(url, json=MAIL, headers={"Host": "rebound.example"}) as response:
        assert response.status == 421
    async with session.post(url, data=str(MAIL)) as response:
        assert response.status == 400
    async with session.post(url, json=["x"]) as response:
        assert response.status == 400
    assert lab.items(ANNA) == []


async def test_hands_out_its_ca(lab: LabExchange, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{lab.control}/lab/ca.pem") as response:
        assert await response.text() == lab.ca_pem
