"""Devices and subscriptions: found, shown, acted on, exported; nothing said harms a page."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.administrators.roles import Role
from apps.audit.models import AuditEntry
from apps.console.base import ConsoleAdmin
from apps.devices.models import Block, Device
from apps.history import stories
from apps.subscriptions.models import Subscription
from tests.console.fleet import make_device
from tests.console.people import BASE, FOREIGN, World, signed_in

pytestmark = pytest.mark.django_db
DEVICES = f"{BASE}devices/device/"
SUBSCRIPTIONS = f"{BASE}subscriptions/subscription/"
ADDRESS = "Zoe.Canary@example.com"
HOSTILE = "=cmd|' /C calc'!A0<script>alert(1)</script>\u202egnp.exe"


@pytest.fixture
def admin(world: World) -> Client:
    return signed_in(world.people[Role.OG_ADMINISTRATOR])


def text(answer: object) -> str:
    content = getattr(answer, "content", None)
    return (content if content is not None else b"".join(answer)).decode()  # type: ignore[call-overload]


def test_found_by_address_and_by_uem_id_and_neither_stands_anywhere(
    admin: Client, world: World
) -> None:
    mine = make_device(world.mine, ADDRESS, uem_id="UEM-77")
    second = make_device(world.below, "other@example.com", uem_id="UEM-78")
    for wanted in (f" {ADDRESS.lower()} ", "UEM-77", "uem-77", str(mine.pk)):
        answer = admin.post(f"{DEVICES}find/", {"wanted": wanted})
        assert answer["Location"] == f"{DEVICES}{mine.pk}/change/"
    another = make_device(world.mine, ADDRESS)
    answer = admin.post(f"{DEVICES}find/", {"wanted": ADDRESS})
    assert "canary" not in answer["Location"].lower() and "found=" in answer["Location"]
    page = text(admin.get(answer["Location"]))
    assert str(another.pk)[:8] in page and str(mine.pk)[:8] in page
    assert str(second.pk)[:8] not in page
    assert "canary" not in repr(list(AuditEntry.objects.values())).lower()


def test_another_companys_phone_is_not_found(admin: Client, world: World) -> None:
    make_device(world.foreign, ADDRESS, uem_id="UEM-77")
    for wanted in (ADDRESS, "UEM-77"):
        assert admin.post(f"{DEVICES}find/", {"wanted": wanted})["Location"] == DEVICES


def test_a_devices_page_tells_why_it_is_silent(admin: Client, world: World) -> None:
    device = make_device(world.mine, state="refused", reason="credentials_refused")
    Subscription.objects.create(
        mailbox=device.mailbox, owner=device, state="suspect", reason="credentials_refused"
    )
    stories.record(device.pk, "moved", to="active", reason="proved")
    stories.record(device.pk, "announcement", result="accepted", reason="", ms=1234, told="sender")
    stories.record(device.pk, "announcement", result="dead", reason="Unregistered", ms=9)
    page = text(admin.get(f"{DEVICES}{device.pk}/change/"))
    assert "enter the current password" in page
    assert "Mail announced in 1,234 ms" in page and "Said: the sender" in page
    assert "Because: The app is gone from the phone." in page
    assert "sender and subject" in page  # what it may be told


def test_what_devices_say_of_themselves_harms_no_page_and_no_export(
    admin: Client, world: World
) -> None:
    device = make_device(
        world.mine,
        model_name=HOSTILE,
        os_version="\u202e<b>9",
        app_version='"><img src=x>',
        time_zone="<i>Zone",
        reason="<u>why",
        app_id="+com.example\u2067<s>",
    )
    subscription = Subscription.objects.create(
        mailbox=device.mailbox, owner=device, ews_url="https://x/<script>", reason="<q>"
    )
    for url in (
        DEVICES,
        f"{DEVICES}{device.pk}/change/",
        f"{DEVICES}{device.pk}/block/",
        SUBSCRIPTIONS,
        f"{SUBSCRIPTIONS}{subscription.pk}/change/",
    ):
        page = text(admin.get(url))
        for markup in ("<script>alert", "<b>9", "<img src=x", "<i>Zone", "<u>why", "<q>", "<s>"):
            assert markup not in page, (url, markup)
        assert "\u202e" not in page and "\u2067" not in page, url
    rows = list(csv.reader(io.StringIO(text(admin.get(f"{DEVICES}export/")))))
    assert rows[1][0] == str(device.pk)
    assert not any(cell.startswith(tuple("=+-@\t")) for cell in rows[1])
    assert "\u202e" not in "".join(rows[1])
    assert AuditEntry.objects.filter(action="device.export").count() == 1


def test_the_export_is_filtered_and_scoped(admin: Client, world: World) -> None:
    make_device(world.mine, state="asleep")
    make_device(world.mine)
    make_device(world.foreign, state="asleep")
    found = text(admin.get(f"{DEVICES}export/?state__exact=asleep"))
    assert len(found.splitlines()) == 2 and FOREIGN not in found
    for query in ("state__exact=x", "found=x", "system=x", "system=9"):
        assert len(text(admin.get(f"{DEVICES}export/?{query}")).splitlines()) == 1, query
    for query in ("foo=1", "mailbox__user_hmac__startswith=a", "p=x", "platform=%00"):
        assert admin.get(f"{DEVICES}export/?{query}").status_code in (200, 302), query
    # PostgreSQL takes no NUL, wherever it stands.
    assert admin.get(f"{DEVICES}?platform=%00").status_code == 302
    desk = signed_in(world.people[Role.HELP_DESK])
    assert desk.get(f"{DEVICES}export/").status_code == 403


def test_an_address_asks_for_no_column_that_is_no_filter(admin: Client, world: World) -> None:
    make_device(world.mine)
    for query in ("secret_hash__startswith=0", "uem_hmac__gt=", "og__path=x"):
        assert admin.get(f"{DEVICES}?{query}").status_code == 400, query
    assert admin.get(f"{DEVICES}?state__exact=active&o=1").status_code == 200


def test_block_unblock_and_remove(admin: Client, world: World) -> None:
    device = make_device(world.below, uem_id="UEM-1")
    assert b"Block" in admin.get(f"{DEVICES}{device.pk}/block/").content
    device.refresh_from_db()
    assert device.state == "active"
    admin.post(f"{DEVICES}{device.pk}/block/", {"shred": "on"})
    device.refresh_from_db()
    assert device.state == "blocked" and not device.push_token_sealed
    # An OG administrator's block ends where their own groups do.
    assert set(Block.objects.values_list("scope", flat=True)) == {world.mine.path}
    assert "UEM id" in text(admin.get(f"{DEVICES}{device.pk}/change/"))
    admin.post(f"{DEVICES}{device.pk}/unblock/")
    device.refresh_from_db()
    assert device.state == "retired" and not Block.objects.exists()
    assert admin.post(f"{DEVICES}{device.pk}/remove/")["Location"] == DEVICES
    assert not Device.objects.exists()
    actions = list(AuditEntry.objects.order_by("id").values_list("action", "actor"))
    who = Role.OG_ADMINISTRATOR.value
    assert [a for a in actions if a[0].startswith("device.")] == [
        ("device.block", who),
        ("device.unblock", who),
        ("device.remove", who),
    ]


def test_a_push_that_can_not_be_sent_says_why(admin: Client, world: World) -> None:
    device = make_device(world.mine)
    Device.objects.update(push_token_sealed=b"")
    page = text(admin.post(f"{DEVICES}{device.pk}/test/", follow=True))
    assert "There is no push token" in page


def test_many_at_once_in_parts(admin: Client, world: World) -> None:
    mine = [make_device(world.mine, f"{n}@example.com") for n in range(3)]
    foreign = make_device(world.foreign)
    ids = [str(one.pk) for one in (*mine, foreign)]
    page = admin.post(DEVICES, {"action": "bulk_block", "_selected_action": ids})
    assert "3 devices" in text(page) and str(foreign.pk) not in text(page)
    assert not Device.objects.filter(state="blocked").exists()
    sent = {"verb": "block", "ids": " ".join(ids)}
    answer = admin.post(f"{DEVICES}bulk/", sent).json()
    assert answer == {"done": 3, "not_done": {"Not there any more, or not yours.": 1}}
    foreign.refresh_from_db()
    assert foreign.state == "active"
    again = admin.post(f"{DEVICES}bulk/", sent).json()
    assert again["done"] == 0 and again["not_done"]["It was blocked already."] == 3
    assert admin.post(f"{DEVICES}bulk/", sent | {"ids": "x"}).status_code == 400
    auditor = signed_in(world.people[Role.AUDITOR])
    assert auditor.post(f"{DEVICES}bulk/", sent | {"verb": "unblock"}).json()["done"] == 0


def test_subscriptions_of_lost_phones_belong_to_the_mail_systems_group(
    admin: Client, world: World
) -> None:
    for og in (world.mine, world.foreign):
        device = make_device(og)
        Subscription.objects.create(mailbox=device.mailbox, owner=None, state="ended")
    page = text(admin.get(SUBSCRIPTIONS))
    assert "Mine Exchange" in page and FOREIGN not in page


def test_pages_hold_their_rows_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConsoleAdmin, "list_per_page", 2)
    for number in range(5):
        seen = timezone.now() - timedelta(minutes=number)
        make_device(world.mine, f"p{number}@example.com", last_checkin_at=seen)
    client = signed_in(world.people[Role.HELP_DESK])
    wanted = list(Device.objects.order_by("-last_checkin_at").values_list("pk", flat=True))
    shown = []
    for number in (1, 2, 3):
        rows = client.get(DEVICES, {"p": number}).context["cl"].result_list
        shown += [row.pk for row in rows]
    assert shown == wanted
    assert client.get(DEVICES, {"p": 9}).status_code == 302
