"""exchangelib uses the lab as if it were Exchange; all that is said meets the public schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from exchangelib import (
    BASIC,
    DELEGATE,
    Account,
    Configuration,
    Credentials,
    Mailbox,
    Message,
)
from exchangelib.errors import ErrorAccessDenied, ErrorItemNotFound, UnauthorizedError
from exchangelib.folders import Inbox
from exchangelib.items import MeetingRequest
from exchangelib.properties import (
    EWS_ID,
    HEX_ENTRY_ID,
    AlternateId,
    CreatedEvent,
    DistinguishedFolderId,
    ModifiedEvent,
    NewMailEvent,
    StatusEvent,
)
from exchangelib.protocol import BaseProtocol, FailFast
from exchangelib.services import SendNotification

from apps.lab.exchange import LabExchange, in_thread

from .ews_schema import violations


@pytest.fixture
def talk() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, talk: list[tuple[str, bytes]]) -> Iterator[LabExchange]:
    lab = LabExchange(on_message=lambda direction, body: talk.append((direction, body)))
    lab.add_demo_accounts()
    adapter = type("LabAdapter", (requests.adapters.HTTPAdapter,), {})

    def cert_verify(self: object, conn: object, url: str, verify: object, cert: object) -> None:
        requests.adapters.HTTPAdapter.cert_verify(self, conn, url, str(lab.ca_file), cert)

    adapter.cert_verify = cert_verify
    monkeypatch.setattr(BaseProtocol, "HTTP_ADAPTER_CLS", adapter)
    with in_thread(lab):
        yield lab


def account(lab: LabExchange, user: str, password: str, address: str = "") -> Account:
    configuration = Configuration(
        service_endpoint=lab.url,
        credentials=Credentials(user, password),
        auth_type=BASIC,
        retry_policy=FailFast(),
    )
    return Account(
        address or f"{user.rpartition(chr(92))[2].partition('@')[0]}@example.com",
        config=configuration,
        autodiscover=False,
        access_type=DELEGATE,
    )


@pytest.fixture
def anna(lab: LabExchange) -> Account:
    return account(lab, "EXAMPLE\\anna", "anna-lab-1")


@pytest.fixture(autouse=True)
def all_traffic_is_valid(talk: list[tuple[str, bytes]]) -> Iterator[None]:
    yield
    found = [(direction, wrong) for direction, body in talk for wrong in violations(body)]
    assert found == []


def test_lists_the_inbox(lab: LabExchange, anna: Account) -> None:
    for number in range(3):
        lab.deliver("anna@example.com", "Ben Berger", "ben@example.com", f"Mail {number}", "Hi")
    mails = list(anna.inbox.all().order_by("-datetime_received"))
    assert sorted(mail.subject for mail in mails) == ["Mail 0", "Mail 1", "Mail 2"]
    assert {mail.sender.email_address for mail in mails} == {"ben@example.com"}
    assert {mail.body for mail in mails} == {"Hi"}


def test_reads_unread_count_and_marks_read(lab: LabExchange, anna: Account) -> None:
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "Hello")
    anna.inbox.refresh()
    assert (anna.inbox.unread_count, anna.inbox.total_count) == (1, 1)
    mail = anna.inbox.get(is_read=False)
    mail.is_read = True
    mail.save(update_fields=["is_read"])
    anna.inbox.refresh()
    assert anna.inbox.unread_count == 0
    assert lab.unread_count("anna@example.com") == 0


def test_sends_itself_mail(anna: Account) -> None:
    to = [Mailbox(email_address="anna@example.com")]
    only_sent = Message(account=anna, subject="To myself", body="x", to_recipients=to)
    only_sent.send(save_copy=False)
    Message(account=anna, folder=anna.sent, subject="Kept", to_recipients=to).send_and_save()
    arrived = anna.inbox.all().order_by("subject")
    assert [(m.subject, m.is_read, m.sender.name) for m in arrived] == [
        ("Kept", False, "Anna Adler"),
        ("To myself", False, "Anna Adler"),
    ]
    assert [m.subject for m in anna.sent.all()] == ["Kept"]


def test_sends_a_saved_draft_to_others(lab: LabExchange, anna: Account) -> None:
    draft = Message(
        account=anna,
        folder=anna.drafts,
        subject="Later",
        to_recipients=[Mailbox(email_address="ben@example.com")],
    ).save()
    assert [m.subject for m in anna.drafts.all()] == ["Later"]
    draft.send()
    assert [entry["subject"] for entry in lab.items("ben@example.com")] == ["Later"]
    assert [m.subject for m in anna.sent.all()] == ["Later"]
    assert anna.drafts.all().count() == 0


def test_moves_and_deletes(lab: LabExchange, anna: Account) -> None:
    for subject in ("move", "trash", "gone"):
        lab.deliver("anna@example.com", "Ben", "ben@example.com", subject)
    mail = anna.inbox.get(subject="move")
    old = mail.id
    mail.move(anna.junk)
    assert mail.id != old
    with pytest.raises(ErrorItemNotFound):
        anna.inbox.get(id=old)
    assert anna.junk.get(id=mail.id).subject == "move"
    anna.inbox.get(subject="trash").move_to_trash()
    anna.inbox.get(subject="gone").delete()
    assert [m.subject for m in anna.trash.all()] == ["trash"]
    assert anna.inbox.all().count() == 0


def test_filters_pages_and_walks_folders(lab: LabExchange, anna: Account) -> None:
    ids = [
        lab.deliver("anna@example.com", "Ben", "ben@example.com", f"{number:03}")
        for number in range(25)
    ]
    for item_id in ids[:5]:
        lab.mark_read(item_id)
    unread = anna.inbox.filter(
        is_read=False,
        datetime_received__gte=anna.inbox.all()[0].datetime_received.replace(year=2020),
    )
    unread.page_size = 7
    assert sorted(unread.values_list("subject", flat=True)) == [f"{n:03}" for n in range(5, 25)]
    assert anna.inbox.filter(subject__icontains="01").count() == 11
    names = {folder.name for folder in anna.root.walk()}
    assert {"Top of Information Store", "Inbox", "Sent Items", "Calendar"} <= names


def test_meeting_messages_are_what_they_are(lab: LabExchange, anna: Account) -> None:
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "Planning", kind="MeetingRequest")
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "No", kind="MeetingCancellation")
    lab.deliver("anna@example.com", "Ben", "ben@example.com", "Yes", kind="MeetingResponse")
    found = {type(item).__name__: item for item in anna.inbox.all()}
    assert set(found) == {"MeetingRequest", "MeetingCancellation", "MeetingResponse"}
    request = found["MeetingRequest"]
    assert isinstance(request, MeetingRequest)
    assert (request.subject, request.sender.name) == ("Planning", "Ben")


def test_resolves_names_and_converts_ids(lab: LabExchange, anna: Account) -> None:
    assert anna.version.build.major_version == 15
    [(mailbox, contact)] = anna.protocol.resolve_names(["adler"], return_full_contact_data=True)
    assert mailbox.email_address == "anna@example.com"
    assert "SMTP:a.adler@example.com" in {entry.email for entry in contact.email_addresses}
    item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "x")
    given = AlternateId(id=item_id, format=EWS_ID, mailbox="anna@example.com")
    [hexed] = anna.protocol.convert_ids([given], destination_format=HEX_ENTRY_ID)
    assert bytes.fromhex(hexed.id)
    hexed.mailbox = "anna@example.com"
    [back] = anna.protocol.convert_ids([hexed], destination_format=EWS_ID)
    assert back.id == item_id


def test_rights(lab: LabExchange) -> None:
    lab.deliver("anna@example.com", "Carla", "carla@example.com", "Secret")
    lab.grant("anna@example.com", "ben@example.com", "inbox")
    lab.grant("anna@example.com", "carla@example.com")

    def annas_inbox(reader: Account) -> Inbox:
        folder = DistinguishedFolderId(
            id=Inbox.DISTINGUISHED_FOLDER_ID, mailbox=Mailbox(email_address="a.adler@example.com")
        )
        asked = Inbox(root=reader.root, _distinguished_id=folder)
        inbox = Inbox.resolve(account=reader, folder=asked)
        # exchangelib takes the name "inbox" in the answer for the reader's own.
        inbox._distinguished_id = None
        return inbox

    reviewer = account(lab, "ben@example.com", "ben-lab-2")
    mail = annas_inbox(reviewer).get(subject="Secret")
    mail.is_read = True
    with pytest.raises(ErrorAccessDenied):
        mail.save(update_fields=["is_read"])
    delegate = account(lab, "EXAMPLE\\carla", "carla-lab-3", "anna@example.com")
    mail = delegate.inbox.get(subject="Secret")
    mail.is_read = True
    mail.save(update_fields=["is_read"])
    assert lab.unread_count("anna@example.com") == 0
    with pytest.raises(ErrorAccessDenied):
        annas_inbox(account(lab, "dora@EXAMPLE", "dora-lab-4"))


def test_wrong_password_is_refused_and_counted(lab: LabExchange) -> None:
    with pytest.raises(UnauthorizedError):
        _ = account(lab, "EXAMPLE\\anna", "wrong").inbox
    assert lab.counters()["unauthorized"]["anna@example.com"] >= 1


class _Hook(BaseHTTPRequestHandler):
    """The callback server, parsing with exchangelib's own SendNotification."""

    events: list[object]
    arrived: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service = SendNotification(protocol=None)
        for notification in service.parse(body):
            self.events.extend(notification.events)
        reply = service.ok_payload()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
        self.arrived.set()

    def log_message(self, *_: object) -> None:
        pass


def test_subscribes_to_push(lab: LabExchange, anna: Account) -> None:
    hook = type("Hook", (_Hook,), {"events": [], "arrived": threading.Event()})
    server = HTTPServer(("127.0.0.1", 0), hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        subscription, watermark = anna.inbox.subscribe_to_push(url)
        assert subscription and watermark
        assert [type(event) for event in hook.events] == [StatusEvent]
        hook.events.clear()
        hook.arrived.clear()
        item_id = lab.deliver("anna@example.com", "Ben", "ben@example.com", "Push")
        assert hook.arrived.wait(5)
        assert [type(event) for event in hook.events] == [
            NewMailEvent,
            CreatedEvent,
            ModifiedEvent,
        ]
        assert hook.events[0].item_id.id == item_id
        assert hook.events[2].unread_count == 1
        assert lab.subscriptions()["by_mailbox"] == {"anna@example.com": 1}
    finally:
        server.shutdown()
        server.server_close()
