"""Stories: what is kept of a device, and what is never kept."""

from __future__ import annotations

import logging
import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from apps.devices import registry
from apps.devices.models import DeviceState
from apps.devices.registry import Description
from apps.history import stories
from apps.history.buffer import buffer
from apps.history.models import LooseEntry, Story
from apps.history.tasks import housekeeping
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = uuid.UUID("11111111-2222-3333-4444-555555555555")


def kinds(device_id: uuid.UUID = PHONE) -> list[str]:
    return [entry.kind for entry in stories.story(device_id)]


def test_a_story_is_told_in_order_whether_packed_or_loose() -> None:
    stories.record(PHONE, "first", code="a", n=1, ok=True, share=0.5, device=PHONE, none=None)
    buffer.flush()
    housekeeping()
    stories.record(PHONE, "second")
    stories.record(uuid.uuid4(), "elsewhere")
    assert kinds() == ["first", "second"]
    facts = stories.story(PHONE)[0].facts
    assert facts == {
        "code": "a",
        "n": 1,
        "ok": True,
        "share": 0.5,
        "device": str(PHONE),
        "none": None,
    }
    assert LooseEntry.objects.count() == 2
    housekeeping()
    assert LooseEntry.objects.count() == 0
    assert kinds() == ["first", "second"]
    assert Story.objects.count() == 2


def test_a_story_keeps_its_newest_hundred() -> None:
    for number in range(stories.ENTRIES_KEPT + 30):
        stories.record(PHONE, "push", n=number)
    buffer.flush()
    housekeeping()
    for number in range(stories.ENTRIES_KEPT + 30, stories.ENTRIES_KEPT + 40):
        stories.record(PHONE, "push", n=number)
    told = [entry.facts["n"] for entry in stories.story(PHONE)]
    assert told == list(range(40, stories.ENTRIES_KEPT + 40))
    housekeeping()
    assert len(stories._unpack(bytes(Story.objects.get().packed))) == stories.ENTRIES_KEPT
    # Small enough for a row of every phone.
    assert len(Story.objects.get().packed) < 2_000


@pytest.mark.parametrize(
    "personal",
    ["anna@example.com", "Lunch at noon?", "a" * 41, "EXAMPLE\\anna", "Grüße", "a\nb", 'x"y'],
)
def test_what_is_no_code_is_kept_nowhere(personal: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        stories.record(PHONE, "push", reason=personal)
        stories.record(PHONE, personal)
    buffer.flush()
    told = stories.story(PHONE)
    assert told[0].facts == {"reason": "?"}
    assert told[1].kind == "?"
    assert personal not in caplog.text
    assert "no code" in caplog.text


def test_old_stories_go() -> None:
    stories.record(PHONE, "push")
    stories.record(uuid.UUID(int=2), "push")
    buffer.flush()
    housekeeping()
    Story.objects.filter(device_id=PHONE).update(newest_at=1.0)
    housekeeping()
    assert [row.device_id for row in Story.objects.all()] == [uuid.UUID(int=2)]


def test_every_move_of_a_device_is_in_its_story() -> None:
    group = create_group("Example")
    system = add_mail_system(group, "Exchange", ["mail.example.com"])
    mailbox = registry.mailbox_for(system, "anna@example.com")
    said = Description("ios", "com.example.mail", "ab" * 32, "https://mail.example.com/")
    with transaction.atomic():
        enrolled = registry.enrol(group, mailbox, said)
    assert enrolled is not None
    device = enrolled[0]
    registry.proved(device.id)
    registry.move(device.id, DeviceState.BLOCKED, "lost_phone")
    assert not registry.move(device.id, DeviceState.ACTIVE)  # nothing moved, nothing told
    moves = [entry.facts for entry in stories.story(device.id)]
    assert moves == [
        {"to": "joining", "reason": ""},
        {"to": "active", "reason": "proved"},
        {"to": "blocked", "reason": "lost_phone"},
    ]
    out = StringIO()
    call_command("ens_story", str(device.id), stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("now: blocked (lost_phone) since ")
    assert lines[-1].endswith("moved         to=blocked  reason=lost_phone")


def test_support_hears_of_an_unknown_device() -> None:
    with pytest.raises(CommandError):
        call_command("ens_story", str(uuid.uuid4()))
