"""What the log carries survives the journey and shows nothing on the way."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from apps.exchange.ews.notification import Event
from apps.subscriptions.entries import JoinWork, MailWork

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_mail_work_leads_back() -> None:
    work = MailWork(
        creds="c",
        events=(
            Event("NewMail", item_id="AAMkAD+/=", watermark="w", timestamp=NOON),
            Event("Modified", folder_id="f", unread_count=0, timestamp=NOON),
            Event("Status", watermark="w"),
        ),
        foreign_hmac="f",
        error_code="ErrorReadEventsFailed",
        catch_up_since=NOON,
    )
    assert MailWork.from_bytes(work.to_bytes()) == work
    assert MailWork.from_bytes(MailWork(creds="c").to_bytes()) == MailWork(creds="c")


def test_join_work_leads_back_and_hides_its_credentials() -> None:
    work = JoinWork(device_id=uuid.uuid4(), creds="sealed-marked", enrolment="ab")
    assert JoinWork.from_bytes(work.to_bytes()) == work
    assert "sealed-marked" not in repr(work)
    assert "sealed-marked" not in repr(MailWork(creds="sealed-marked"))
