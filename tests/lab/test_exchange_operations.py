"""Operations over the wire: who gets in, who sees what, which errors are answered, troubles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from lxml import etree

from apps.lab.exchange import Clock, EwsError, LabExchange, ServerVersion, in_thread

from .ews_schema import violations
from .exchange_helpers import M, T, Webhook, ews, lab_context, subscribe_request, until

ANNA = "anna@example.com"
INBOX = '<t:DistinguishedFolderId Id="inbox"/>'


@pytest.fixture
async def lab() -> AsyncIterator[LabExchange]:
    talk: list[tuple[str, bytes]] = []
    lab = LabExchange(on_message=lambda direction, body: talk.append((direction, body)))
    lab.add_demo_accounts()
    async with lab:
        yield lab
    answers = [body for direction, body in talk if direction == "answer"]
    assert [wrong for body in answers for wrong in violations(body)] == []


def get_folder(folder_id: str = INBOX, shape: str = "Default") -> str:
    return (
        f"<m:GetFolder><m:FolderShape><t:BaseShape>{shape}</t:BaseShape></m:FolderShape>"
        f"<m:FolderIds>{folder_id}</m:FolderIds></m:GetFolder>"
    )


def get_items(*ids: str, shape: str = "AllProperties") -> str:
    named = "".join(f'<t:ItemId Id="{item_id}"/>' for item_id in ids)
    return (
        f"<m:GetItem><m:ItemShape><t:BaseShape>{shape}</t:BaseShape></m:ItemShape>"
        f"<m:ItemIds>{named}</m:ItemIds></m:GetItem>"
    )


def find_items(more: str = "", view: str = "", shape: str = "AllProperties") -> str:
    return (
        '<m:FindItem Traversal="Shallow">'
        f"<m:ItemShape><t:BaseShape>{shape}</t:BaseShape></m:ItemShape>{view}{more}"
        f"<m:ParentFolderIds>{INBOX}</m:ParentFolderIds></m:FindItem>"
    )


def compare(name: str, uri: str, value: str) -> str:
    return (
        f'<t:{name}><t:FieldURI FieldURI="{uri}"/><t:FieldURIOrConstant>'
        f'<t:Constant Value="{value}"/></t:FieldURIOrConstant></t:{name}>'
    )


def subjects(xml: etree._Element) -> list[str | None]:
    return [element.text for element in xml.iter(f"{T}Subject")]


def others_inbox(address: str) -> str:
    return (
        '<t:DistinguishedFolderId Id="inbox"><t:Mailbox>'
        f"<t:EmailAddress>{address}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>"
    )


@pytest.mark.parametrize(
    "user", ["EXAMPLE\\anna", "example\\ANNA", "anna@EXAMPLE", "Anna@example.com"]
)
async def test_logs_in_by_every_form_of_name(lab: LabExchange, user: str) -> None:
    assert (await ews(lab, get_folder(), user)).codes == ["NoError"]


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("EXAMPLE\\anna", "wrong"),
        ("OTHER\\anna", "anna-lab-1"),
        ("a.adler@example.com", ""),
        ("", ""),
    ],
)
async def test_wrong_credentials_get_401(lab: LabExchange, user: str, password: str) -> None:
    reply = await ews(lab, get_folder(), user, password)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    assert sum(lab.counters()["unauthorized"].values()) == 1
    assert lab.counters()["calls"] == {}


async def test_a_changed_password_counts_per_account(lab: LabExchange) -> None:
    lab.set_password(ANNA, "neu-ü")
    assert (await ews(lab, get_folder())).status == 401
    assert (await ews(lab, get_folder(), password="neu-ü")).status == 200
    assert lab.counters()["unauthorized"] == {ANNA: 1}


async def test_the_server_tells_its_version() -> None:
    lab = LabExchange(version=ServerVersion(14, 3, 513, 0, "Exchange2010_SP2"))
    lab.add_demo_accounts()
    async with lab:
        lab.deliver(ANNA, "Ben", "ben@example.com", "x")
        reply = await ews(lab, find_items())
    info = reply.xml.find(f".//{T}ServerVersionInfo")
    assert (info.get("MajorVersion"), info.get("Version")) == ("14", "Exchange2010_SP2")
    sender = reply.xml.find(f".//{T}From/{T}Mailbox")
    # FindItem of Exchange 2010 knows the name only.
    assert [etree.QName(child).localname for child in sender] == ["Name"]


async def test_own_inbox_and_an_alias_are_the_same_folder(lab: LabExchange) -> None:
    own = await ews(lab, get_folder())
    alias = await ews(lab, get_folder(others_inbox("A.Adler@Example.com")))
    ids = [reply.xml.find(f".//{T}FolderId").get("Id") for reply in (own, alias)]
    assert ids[0] == ids[1]
    lab.grant("ben@example.com", ANNA)
    bens = await ews(lab, get_folder(others_inbox("ben@example.com")))
    assert bens.xml.find(f".//{T}FolderId").get("Id") != ids[0]


async def test_who_may_not_see_a_folder_is_denied(lab: LabExchange) -> None:
    for folder, code in (
        (others_inbox("ben@example.com"), "ErrorAccessDenied"),
        (others_inbox("nobody@example.com"), "ErrorNonExistentMailbox"),
        ('<t:DistinguishedFolderId Id="voicemail"/>', "ErrorFolderNotFound"),
        ('<t:FolderId Id="AAAA"/>', "ErrorFolderNotFound"),
    ):
        assert (await ews(lab, get_folder(folder))).codes == [code]


async def test_items_of_others_and_items_that_are_gone(lab: LabExchange) -> None:
    own = lab.deliver(ANNA, "Ben", "ben@example.com", "own")
    other = lab.deliver("ben@example.com", "Anna", ANNA, "other")
    gone = lab.deliver(ANNA, "Ben", "ben@example.com", "gone")
    lab.delete(gone)
    reply = await ews(lab, get_items(own, other, gone, own.swapcase()))
    assert reply.codes == [
        "NoError",
        "ErrorAccessDenied",
        "ErrorItemNotFound",
        "ErrorItemNotFound",
    ]
    assert subjects(reply.xml) == ["own"]
    with pytest.raises(EwsError, match="ErrorItemNotFound"):
        lab.mark_read(gone)


async def test_every_kind_of_item_with_all_its_properties(lab: LabExchange) -> None:
    hostile = "<b>&\x00\x0b\ud7ff\U0001f4ec"
    ids = [
        lab.deliver(ANNA, "Ben", "ben@example.com", hostile, hostile, kind=kind)
        for kind in ("Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation")
    ]
    for shape in ("IdOnly", "Default", "AllProperties"):
        reply = await ews(lab, get_items(*ids, shape=shape))
        assert reply.codes == ["NoError"] * 4
    kinds = [etree.QName(items[0]).localname for items in reply.xml.iter(f"{M}Items")]
    assert kinds == ["Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation"]
    assert set(subjects(reply.xml)) == {"<b>&\ud7ff\U0001f4ec"}


async def test_finds_unread_since_a_moment_newest_first(lab: LabExchange) -> None:
    for number in range(4):
        lab.deliver(ANNA, "Ben", "ben@example.com", f"{number}", is_read=number == 1)
        await asyncio.sleep(0.01)
    since = lab.items(ANNA)[1]["received_at"]
    both = compare("IsEqualTo", "message:IsRead", "false") + compare(
        "IsGreaterThanOrEqualTo", "item:DateTimeReceived", since
    )
    order = (
        '<m:SortOrder><t:FieldOrder Order="{}"><t:FieldURI FieldURI="item:DateTimeReceived"/>'
        "</t:FieldOrder></m:SortOrder>"
    )
    where = f"<m:Restriction><t:And>{both}</t:And></m:Restriction>"
    reply = await ews(lab, find_items(where + order.format("Descending")))
    assert subjects(reply.xml) == ["3", "2"]
    reply = await ews(lab, find_items(where + order.format("Ascending")))
    assert subjects(reply.xml) == ["2", "3"]
    reply = await ews(lab, find_items())
    assert subjects(reply.xml) == ["3", "2", "1", "0"]


async def test_pages_through_a_folder(lab: LabExchange) -> None:
    for number in range(5):
        lab.deliver(ANNA, "Ben", "ben@example.com", f"{number}")
    seen, offset, last = [], 0, False
    while not last:
        view = (
            f'<m:IndexedPageItemView MaxEntriesReturned="2" Offset="{offset}"'
            ' BasePoint="Beginning"/>'
        )
        reply = await ews(lab, find_items(view=view))
        root = reply.xml.find(f".//{M}RootFolder")
        seen += subjects(reply.xml)
        offset = int(root.get("IndexedPagingOffset"))
        last = root.get("IncludesLastItemInRange") == "true"
        assert root.get("TotalItemsInView") == "5"
    assert sorted(str(subject) for subject in seen) == ["0", "1", "2", "3", "4"]
    reply = await ews(lab, find_items(view=view.replace('"2"', '"0"')))
    assert reply.codes == ["ErrorInvalidPagingMaxRows"]


@pytest.mark.parametrize(
    ("restriction", "code"),
    [
        (compare("IsEqualTo", "item:Culture", "en"), "ErrorUnsupportedPathForQuery"),
        (compare("IsEqualTo", "message:IsRead", "maybe"), "ErrorInvalidValueForProperty"),
        (
            f"<t:And>{compare('IsEqualTo', 'item:Size', '1') * 100}</t:And>",
            "ErrorRestrictionTooLong",
        ),
    ],
)
async def test_restrictions_it_can_not_do(lab: LabExchange, restriction: str, code: str) -> None:
    lab.deliver(ANNA, "Ben", "ben@example.com", "x")
    reply = await ews(lab, find_items(f"<m:Restriction>{restriction}</m:Restriction>"))
    assert reply.codes == [code]


async def test_a_stale_change_key_loses_only_where_it_must(lab: LabExchange) -> None:
    item = lab.deliver(ANNA, "Ben", "ben@example.com", "x")

    def update(conflict: str) -> str:
        return (
            f'<m:UpdateItem ConflictResolution="{conflict}" MessageDisposition="SaveOnly">'
            f'<m:ItemChanges><t:ItemChange><t:ItemId Id="{item}" ChangeKey="old"/><t:Updates>'
            '<t:SetItemField><t:FieldURI FieldURI="message:IsRead"/><t:Message>'
            "<t:IsRead>true</t:IsRead></t:Message></t:SetItemField>"
            "</t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>"
        )

    assert (await ews(lab, update("NeverOverwrite"))).codes == ["ErrorIrresolvableConflict"]
    assert lab.unread_count(ANNA) == 1
    assert (await ews(lab, update("AutoResolve"))).codes == ["NoError"]
    assert lab.unread_count(ANNA) == 0
    readonly = update("AutoResolve").replace("message:IsRead", "item:Size")
    assert (await ews(lab, readonly)).codes == ["ErrorInvalidPropertySet"]


async def test_sends_only_with_recipients_and_in_own_name(lab: LabExchange) -> None:
    def send(inside: str) -> str:
        return (
            '<m:CreateItem MessageDisposition="SendOnly"><m:Items><t:Message>'
            f"<t:Subject>x</t:Subject>{inside}</t:Message></m:Items></m:CreateItem>"
        )

    to = "<t:Mailbox><t:EmailAddress>{}</t:EmailAddress></t:Mailbox>"
    recipients = f"<t:ToRecipients>{to.format('carla@example.com')}</t:ToRecipients>"
    as_ben = f"<t:From>{to.format('ben@example.com')}</t:From>"
    assert (await ews(lab, send(""))).codes == ["ErrorInvalidRecipients"]
    assert (await ews(lab, send(recipients + as_ben))).codes == ["ErrorSendAsDenied"]
    assert lab.items("carla@example.com") == []
    lab.grant("ben@example.com", ANNA)
    assert (await ews(lab, send(recipients + as_ben))).codes == ["NoError"]
    assert [mail["from_address"] for mail in lab.items("carla@example.com")] == ["ben@example.com"]


async def test_names_that_resolve_to_none_or_many(lab: LabExchange) -> None:
    def resolve(entry: str) -> str:
        return (
            '<m:ResolveNames ReturnFullContactData="true">'
            f"<m:UnresolvedEntry>{entry}</m:UnresolvedEntry></m:ResolveNames>"
        )

    lab.add_mailbox("anna.b@example.com", "Anna Bauer", "x")
    assert (await ews(lab, resolve("zoe"))).codes == ["ErrorNameResolutionNoResults"]
    many = await ews(lab, resolve("anna"))
    assert many.codes == ["ErrorNameResolutionMultipleResults"]
    assert len(list(many.xml.iter(f"{T}Resolution"))) == 2
    one = await ews(lab, resolve("smtp:a.adler@example.com"))
    assert one.xml.findtext(f".//{T}Resolution/{T}Mailbox/{T}EmailAddress") == ANNA


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"not xml", "text/xml", 400),
        (b"<a/>", "text/xml", 400),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "text/xml", 400),
        (b"<a/>", "application/json", 415),
    ],
)
async def test_what_is_not_soap_is_refused(body: bytes, content_type: str, status: int) -> None:
    lab = LabExchange()
    lab.add_demo_accounts()
    headers = {
        "Content-Type": content_type,
        "Authorization": aiohttp.encode_basic_auth("anna@example.com", "anna-lab-1"),
    }
    async with lab, aiohttp.ClientSession() as session:
        context = lab_context(lab.ca_pem)
        async with session.post(lab.url, data=body, headers=headers, ssl=context) as response:
            assert response.status == status


async def test_faults_for_what_no_exchange_knows(lab: LabExchange) -> None:
    reply = await ews(lab, "<m:GetServerTimeZones/>")
    assert (reply.status, reply.xml.findtext(".//faultcode")) == (500, "a:ErrorInvalidOperation")


async def test_busy_tells_how_long_to_back_off(lab: LabExchange) -> None:
    lab.faults.add("busy", 60, back_off_ms=4321, operations=["GetFolder"], address=ANNA)
    reply = await ews(lab, get_folder())
    assert reply.status == 500
    errors = "{http://schemas.microsoft.com/exchange/services/2006/errors}"
    assert reply.xml.findtext(f".//{errors}ResponseCode") == "ErrorServerBusy"
    value = reply.xml.find(f".//{T}MessageXml/{T}Value")
    assert (value.get("Name"), value.text) == ("BackOffMilliseconds", "4321")
    assert (await ews(lab, find_items())).status == 200
    assert (await ews(lab, get_folder(), "EXAMPLE\\ben", "ben-lab-2")).status == 200
    lab.faults.clear()
    assert (await ews(lab, get_folder())).status == 200


async def test_unavailable_and_slow_and_hanging() -> None:
    lab = LabExchange(clock=Clock(scale=10))
    lab.add_demo_accounts()
    async with lab:
        lab.faults.add("unavailable", 1)
        assert (await ews(lab, get_folder())).status == 503
        await asyncio.sleep(0.11)
        assert (await ews(lab, get_folder())).status == 200
        lab.faults.add("slow", 5, delay_s=2)
        begun = time.monotonic()
        assert (await ews(lab, get_folder())).status == 200
        assert time.monotonic() - begun > 0.19
        lab.faults.clear()
        lab.faults.add("hang", 10_000)
        waiting = asyncio.create_task(ews(lab, get_folder()))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        lab.faults.clear()
        assert (await asyncio.wait_for(waiting, 2)).status == 200


async def test_counts_calls_and_connections(lab: LabExchange) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            await ews(lab, get_folder(), session=session)
        assert lab.counters()["connections"] == {"total": 1, "open": 1, "shared": 0}
        await ews(lab, get_folder(), "EXAMPLE\\ben", "ben-lab-2", session=session)
        assert lab.counters()["connections"]["shared"] == 1
    await until(lambda: lab.counters()["connections"]["open"] == 0)
    assert lab.counters()["calls"] == {"GetFolder": 4}


async def test_writes_down_what_was_said(tmp_path: Path) -> None:
    lab = LabExchange(record_dir=tmp_path / "talk")
    lab.add_demo_accounts()
    async with lab, Webhook() as hook:
        await ews(lab, subscribe_request(hook.url))
    files = sorted((tmp_path / "talk").iterdir())
    assert [file.name.split("-")[1] for file in files] == [
        "request.xml",
        "notification.xml",
        "result.xml",
        "answer.xml",
    ]
    assert [wrong for file in files for wrong in violations(file.read_bytes())] == []


def test_thousands_of_mailboxes_cost_little() -> None:
    lab = LabExchange()
    begun = time.monotonic()
    for number in range(5000):
        lab.add_mailbox(f"user{number}@example.com", f"User {number}", "x")
    with in_thread(lab):
        lab.deliver("user4711@example.com", "Ben", "ben@example.com", "x")
        assert lab.unread_count("user4711@example.com") == 1
        assert len(lab.mailboxes()) == 5000
    assert time.monotonic() - begun < 3
    with pytest.raises(ValueError, match="taken"):
        lab.add_mailbox("USER1@example.com", "Twice", "x", username="other")
