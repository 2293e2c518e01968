"""The official EWS schema as referee: whatever ENS and Exchange said to each other is valid.

It looks at everything that was said on the shared stand: alone, at its own day in an inbox; after
the other tests, at theirs too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from apps.lab.stand.waiting import until
from tests.e2e.road import Road
from tests.lab.ews_schema import SOAP, schema, violations

pytestmark = pytest.mark.timeout(180)

# What ENS asks for, and each kind of event it is told of: none may be missing from the record.
OPERATIONS = {"Subscribe", "GetFolder", "GetItem", "FindItem"}
EVENTS = {"NewMail", "Created", "Modified", "Moved", "Deleted", "Status"}
ANSWERS = {"OK", "Unsubscribe"}


def test_everything_said_is_valid(road: Road) -> None:
    schema()  # or skip before all the work
    _a_day(road)
    files = sorted((road.stand.home / "soap").glob("*.xml"))
    kinds = Counter(file.stem.partition("-")[2] for file in files)
    assert set(kinds) == {"request", "answer", "notification", "result"}
    wrong = {file.name: found for file in files if (found := violations(file.read_bytes()))}
    assert wrong == {}
    said = _names(files)
    assert said["request"] >= OPERATIONS
    assert {f"{operation}Response" for operation in OPERATIONS} <= said["answer"]
    assert {f"{event}Event" for event in EVENTS} <= said["notification"]
    assert said["result"] >= ANSWERS


def test_what_is_wrong_is_found(road: Road) -> None:
    """The referee would have said so."""
    road.joined(road.user("anna"))
    requests = (road.stand.home / "soap").glob("*-request.xml")
    subscribe = next(body for file in requests if b"<m:Subscribe>" in (body := file.read_bytes()))
    assert violations(subscribe) == []
    assert violations(subscribe.replace(b"StatusFrequency", b"StatusFrequence"))
    assert violations(subscribe.replace(b"NewMailEvent", b"NewestMailEvent"))


def _a_day(road: Road) -> None:
    """Everything that can happen to an inbox and to its subscription."""
    user = road.user("anna")
    first, second = road.joined(user, "first"), road.joined(user, "second")
    mails = []
    for kind in ("Message", "MeetingRequest", "MeetingResponse", "MeetingCancellation"):
        mails.append(road.exchange.deliver(user, f"A {kind} & more", kind=kind))
        road.rings(first, f"A {kind} & more")
    road.exchange.read(mails[0])
    road.exchange.move(mails[1], "deleteditems")
    road.exchange.delete(mails[2])
    road.badge(second, 1)
    # An intruder's two questions, and a mail that was gone before ENS asked for it.
    account = replace(road.stand.account(road.user("stranger")), email=user.address)
    assert road.stand.phone(account, "stranger").join() == "refused"
    road.exchange.delete(road.exchange.deliver(user, "Gone at once"))

    (held,) = road.exchange.subscriptions(user)
    road.exchange.fail_subscription(held["id"])
    road.holds(user, 0)
    road.renews(second)
    first.unsubscribe()
    second.unsubscribe()
    road.quiet()
    road.exchange.deliver(user, "For nobody")
    road.holds(user, 0)
    until("the record", lambda: _said(road, "Unsubscribe"), 10)


def _said(road: Road, status: str) -> bool:
    results = (road.stand.home / "soap").glob("*-result.xml")
    return any(status.encode() in file.read_bytes() for file in results)


def _names(files: list[Path]) -> dict[str, set[str]]:
    """What each kind of message was about: operations, events, statuses."""
    found: dict[str, set[str]] = {}
    for file in files:
        kind = file.stem.partition("-")[2]
        content = etree.fromstring(file.read_bytes()).find(f"{SOAP}Body/*")
        names = found.setdefault(kind, set())
        for element in [content, *content.iter(etree.Element)]:
            name = etree.QName(element).localname
            names.add((element.text or "") if name == "SubscriptionStatus" else name)
    return found
