"""Answers of every operation, good, bad and broken."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apps.exchange.errors import (
    CredentialsRefused,
    EwsError,
    ExchangeError,
    Forbidden,
    ItemNotFound,
    MailboxMoving,
    MailboxNotFound,
    NonPrimaryAddress,
    NotEws,
    NotThisMailbox,
    ServerBusy,
    SubscriptionUrlRefused,
    TooManySubscriptions,
)
from apps.exchange.ews import find_item, get_folder, get_item, subscribe
from apps.exchange.interface import ItemKind, Joined, Proof
from tests.exchange import answers

BUSY = "ErrorServerBusy"


class TestSubscribe:
    def test_accepted(self) -> None:
        raw = answers.response("Subscribe", answers.subscribed())
        assert subscribe.parse(raw) == Joined("sub+/=1", "AQAAAA==")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("ErrorInvalidPushSubscriptionUrl", SubscriptionUrlRefused),
            ("ErrorExceededSubscriptionCount", TooManySubscriptions),
            ("ErrorNonExistentMailbox", MailboxNotFound),
            ("ErrorMissingEmailAddress", MailboxNotFound),
            ("ErrorAccessDenied", Forbidden),
            ("ErrorPasswordExpired", CredentialsRefused),
            (BUSY, ServerBusy),
            ("ErrorInvalidRequest", EwsError),
        ],
    )
    def test_refused_in_the_message_or_by_a_fault(
        self, code: str, kind: type[ExchangeError]
    ) -> None:
        for raw in (
            answers.response("Subscribe", answers.error("Subscribe", code)),
            answers.fault(code),
        ):
            with pytest.raises(ExchangeError) as caught:
                subscribe.parse(raw)
            assert type(caught.value) is kind

    def test_half_an_answer(self) -> None:
        raw = answers.response("Subscribe", answers.success("Subscribe", ""))
        with pytest.raises(NotEws):
            subscribe.parse(raw)


class TestBackOff:
    @pytest.mark.parametrize(
        ("milliseconds", "seconds"),
        [
            ("297749", 297.749),
            ("0", 0.0),
            ("99999999999", 3600.0),
            ("-5", 30.0),
            ("soon", 30.0),
            ("1" * 5000, 30.0),
            ("٣", 30.0),
            ("", 30.0),
        ],
    )
    def test_of_faults_and_messages(self, milliseconds: str, seconds: float) -> None:
        values = answers.value("BackOffMilliseconds", milliseconds)
        for raw in (
            answers.fault(BUSY, values),
            answers.response("Subscribe", answers.error("Subscribe", BUSY, values=values)),
        ):
            with pytest.raises(ServerBusy) as caught:
                subscribe.parse(raw)
            assert caught.value.back_off_s == pytest.approx(seconds)
            assert caught.value.transient

    def test_unsaid(self) -> None:
        with pytest.raises(ServerBusy) as caught:
            subscribe.parse(answers.fault("ErrorServerBusy"))
        assert caught.value.back_off_s == 30.0


class TestEwsError:
    @pytest.mark.parametrize(
        ("code", "transient"),
        [("ErrorInternalServerError", True), ("ErrorSchemaValidation", False)],
    )
    def test_transient_or_not(self, code: str, transient: bool) -> None:
        with pytest.raises(EwsError) as caught:
            subscribe.parse(answers.fault(code))
        assert (caught.value.response_code, caught.value.transient) == (code, transient)
        assert caught.value.code == "ews_error"

    def test_a_made_up_code_is_not_passed_on(self) -> None:
        with pytest.raises(EwsError) as caught:
            subscribe.parse(answers.fault("anna@example.com"))
        assert caught.value.response_code == "Unknown"
        assert "anna" not in f"{caught.value} {caught.value!r}"

    def test_a_fault_without_detail(self) -> None:
        raw = answers.fault("x").replace(b"<detail>", b"<!--").replace(b"</detail>", b"-->")
        with pytest.raises(EwsError):
            subscribe.parse(raw)


class TestProof:
    def prove(self, *messages: str) -> Proof:
        return get_folder.parse_proof(answers.response("GetFolder", *messages))

    def test_the_same_inbox(self) -> None:
        assert self.prove(answers.folder("AbC="), answers.folder("AbC=")) == Proof("AbC=")

    @pytest.mark.parametrize("other", ["abc=", "AbC=x", "Other"])
    def test_another_inbox_ids_are_case_sensitive(self, other: str) -> None:
        with pytest.raises(NotThisMailbox):
            self.prove(answers.folder("AbC="), answers.folder(other))

    @pytest.mark.parametrize(
        "code",
        [
            "ErrorAccessDenied",
            "ErrorItemNotFound",
            "ErrorFolderNotFound",
        ],
    )
    def test_no_access(self, code: str) -> None:
        with pytest.raises(NotThisMailbox):
            self.prove(answers.folder("A"), answers.folder_error(code))

    @pytest.mark.parametrize(
        ("code", "kind"), [(BUSY, ServerBusy), ("ErrorMailboxMoveInProgress", MailboxMoving)]
    )
    def test_trouble_proves_nothing(self, code: str, kind: type[ExchangeError]) -> None:
        with pytest.raises(kind):
            self.prove(answers.folder("A"), answers.folder_error(code))

    def test_nobody_s_address(self) -> None:
        with pytest.raises(MailboxNotFound):
            self.prove(answers.folder("A"), answers.folder_error("ErrorNonExistentMailbox"))

    @pytest.mark.parametrize("as_fault", [False, True])
    @pytest.mark.parametrize("primary", ["anna@example.com", ""])
    def test_an_alias(self, primary: str, as_fault: bool) -> None:
        values = answers.value("Primary", primary)
        code = "ErrorNonPrimarySmtpAddress"
        error = answers.error("GetFolder", code, "<m:Folders/>", values)
        with pytest.raises(NonPrimaryAddress) as caught:
            if as_fault:
                get_folder.parse_proof(answers.fault(code, values))
            self.prove(answers.folder("A"), error)
        assert (caught.value.primary, caught.value.code) == (primary, "mailbox_not_found")
        assert not caught.value.transient
        assert "anna" not in f"{caught.value!r}{caught.value}"

    def test_no_mailbox_of_ones_own(self) -> None:
        with pytest.raises(MailboxNotFound):
            self.prove(answers.folder_error("ErrorNonExistentMailbox"), answers.folder("A"))

    def test_one_answer_is_not_two(self) -> None:
        for messages in ([answers.folder("A")], [answers.folder("A")] * 3):
            with pytest.raises(NotEws):
                self.prove(*messages)

    @pytest.mark.parametrize("broken", [b'Id=""', b'NoId="A"'])
    def test_two_missing_ids_are_not_equal(self, broken: bytes) -> None:
        raw = answers.response("GetFolder", answers.folder("A"), answers.folder("A"))
        with pytest.raises(NotEws):
            get_folder.parse_proof(raw.replace(b'Id="A"', broken))


class TestUnread:
    def test_count(self) -> None:
        assert get_folder.parse_unread(answers.response("GetFolder", answers.folder("A", 7))) == 7

    @pytest.mark.parametrize("count", [b"-1", b"x", b"", b"1e3", b"99999999999999"])
    def test_nonsense(self, count: bytes) -> None:
        raw = answers.response("GetFolder", answers.folder("A", 7)).replace(b">7<", b">%s<" % count)
        with pytest.raises(NotEws):
            get_folder.parse_unread(raw)


class TestItems:
    def test_what_an_announcement_needs(self) -> None:
        raw = answers.response("GetItem", answers.item("1", "Tea &amp; cake \u2615"))
        (item,) = get_item.parse(raw, ["1"]).values()
        assert (item.item_id, item.kind, item.subject) == ("1", "message", "Tea & cake \u2615")
        assert (item.sender_name, item.sender_address) == ("Bert", "bert@example.com")
        assert item.received_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
        assert (item.is_read, item.parent_folder_id) == (False, "inbox-id")

    def test_those_that_are_gone_are_left_out(self) -> None:
        raw = answers.response(
            "GetItem",
            answers.item("1"),
            answers.item_error("ErrorItemNotFound"),
            answers.item("3", "Third"),
        )
        items = get_item.parse(raw, ["1", "2", "3"])
        assert list(items) == ["1", "3"]
        assert items["3"].subject == "Third"

    @pytest.mark.parametrize(("code", "kind"), [(BUSY, ServerBusy), ("ErrorItemCorrupt", EwsError)])
    def test_another_error_of_one_item_is_an_error(
        self, code: str, kind: type[ExchangeError]
    ) -> None:
        raw = answers.response("GetItem", answers.item("1"), answers.item_error(code))
        with pytest.raises(kind):
            get_item.parse(raw, ["1", "2"])

    @pytest.mark.parametrize(
        ("element", "item_class", "kind"),
        [
            ("Message", "IPM.Note", "message"),
            ("Message", "IPM.Note.SMIME", "message"),
            ("Message", "REPORT.IPM.Note.NDR", "message"),
            ("MeetingRequest", "IPM.Schedule.Meeting.Request", "meeting_request"),
            ("MeetingResponse", "IPM.Schedule.Meeting.Resp.Pos", "meeting_response"),
            ("MeetingCancellation", "IPM.Schedule.Meeting.Canceled", "meeting_cancellation"),
            ("MeetingMessage", "IPM.Schedule.Meeting.Request", "meeting_request"),
            ("MeetingMessage", "IPM.Schedule.Meeting.Notification.Forward", "other"),
        ],
    )
    def test_kinds(self, element: str, item_class: str, kind: ItemKind) -> None:
        raw = answers.response("GetItem", answers.item("1", element=element, item_class=item_class))
        item = get_item.parse(raw, ["1"])["1"]
        assert (item.kind, item.sender_name) == (kind, "Bert")

    def test_an_item_that_is_no_message(self) -> None:
        raw = answers.response(
            "GetItem",
            answers.item("1", element="Item", item_class="IPM.Odd", people="", is_read=""),
        )
        item = get_item.parse(raw, ["1"])["1"]
        assert (item.kind, item.sender_name, item.is_read) == ("other", "", False)

    @pytest.mark.parametrize(
        ("people", "expected"),
        [
            (answers.mailbox("Sender", "Sec", "sec@example.com"), ("Sec", "sec@example.com")),
            (answers.mailbox("From", "", "b@example.com"), ("b@example.com", "b@example.com")),
            (answers.mailbox("From", "Gone", "/O=EXAMPLE/CN=GONE", "EX"), ("Gone", "")),
            ("", ("", "")),
        ],
    )
    def test_senders(self, people: str, expected: tuple[str, str]) -> None:
        raw = answers.response("GetItem", answers.item("1", people=people))
        item = get_item.parse(raw, ["1"])["1"]
        assert (item.sender_name, item.sender_address) == expected

    @pytest.mark.parametrize(
        "received", [b"never", b"", b"9999-12-31T23:59:59-23:00", b"0001-01-01T00:00:00+23:00"]
    )
    def test_times_that_are_none(self, received: bytes) -> None:
        raw = answers.response("GetItem", answers.item("1"))
        raw = raw.replace(b"2026-11-21T10:00:00Z", received)
        assert get_item.parse(raw, ["1"])["1"].received_at is None

    def test_characters_that_xml_forbids(self) -> None:
        """A subject with control characters comes through Exchange as it is."""
        raw = answers.response("GetItem", answers.item("1", "Bell: SUBJECT"))
        for bad in (b"&#x7;", b"&#7;", b"&#xD800;", b"&#x110000;", b"\x07", b"&#xFFFF;"):
            item = get_item.parse(raw.replace(b"SUBJECT", b"&#x41;" + bad), ["1"])["1"]
            assert item.subject[:7] == "Bell: A"
            assert item.subject[7:] in ("?", "\ufffd")

    def test_another_number_of_answers(self) -> None:
        raw = answers.response("GetItem", answers.item("1"))
        with pytest.raises(NotEws):
            get_item.parse(raw, ["1", "2"])

    def test_errors_and_chains_hold_no_text_of_the_server(self) -> None:
        raw = answers.response("GetItem", answers.item_error("ErrorItemCorrupt"))
        with pytest.raises(EwsError) as caught:
            get_item.parse(raw, ["1"])
        assert "anna" not in repr(caught.value)

    def test_not_found_is_an_error_elsewhere(self) -> None:
        with pytest.raises(ItemNotFound):
            get_folder.parse_unread(
                answers.response("GetFolder", answers.folder_error("ErrorItemNotFound"))
            )


class TestFound:
    def test_in_the_server_s_order(self) -> None:
        raw = answers.response("FindItem", answers.found("2", "1"))
        assert find_item.parse(raw) == ["2", "1"]

    def test_none(self) -> None:
        assert find_item.parse(answers.response("FindItem", answers.found())) == []


NOT_EWS = [
    b"",
    b"<html><body>Sign in</body></html>",
    b"<!DOCTYPE html><html></html>",
    b"{}",
    b"\xff\xfe\x00",
    b'<?xml version="1.0" encoding="utf-16"?><a/>',
    "<a/>".encode("utf-16"),
    b"<a" * 1000,
    b"<a>" * 1000 + b"</a>" * 1000,
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>',
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>',
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><a/></s:Body>'
    b"</s:Envelope>",
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><a/></s:Body>'
    b"</s:Envelope>",
]


@pytest.mark.parametrize("raw", NOT_EWS)
def test_what_is_not_ews(raw: bytes) -> None:
    for parse in (
        subscribe.parse,
        find_item.parse,
        get_folder.parse_proof,
        get_folder.parse_unread,
        lambda raw: get_item.parse(raw, ["1"]),
    ):
        with pytest.raises(NotEws) as caught:
            parse(raw)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_the_answer_to_another_operation() -> None:
    raw = answers.response("GetFolder", answers.folder("A", 1))
    with pytest.raises(NotEws):
        subscribe.parse(raw)
    with pytest.raises(NotEws):
        find_item.parse(raw)
