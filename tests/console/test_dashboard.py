"""The dashboard: what wants attention, figures by who may see them, the first-run guide."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.administrators.roles import Role
from apps.alerts.models import Severity
from apps.alerts.service import raise_alert
from apps.cns.models import Pin
from apps.console import dashboard
from apps.history import names
from apps.history.models import MinuteCount
from apps.subscriptions.models import Subscription
from apps.tenants.tokens import issue_token
from ens_project import __version__
from tests.console.fleet import mail_system_of, make_device
from tests.console.people import BASE, FOREIGN, World, signed_in

pytestmark = pytest.mark.django_db
FIGURES = f"{BASE}figures/"


@pytest.fixture
def chief(world: World) -> Client:
    return signed_in(world.people[Role.SYSTEM_ADMINISTRATOR])


@pytest.fixture
def admin(world: World) -> Client:
    return signed_in(world.people[Role.OG_ADMINISTRATOR])


def count(name: str, n: int) -> None:
    minute = int(timezone.now().timestamp()) // 60 - 1
    MinuteCount.objects.create(name=name, minute=minute, n=n)


def test_what_wants_attention_comes_with_advice(chief: Client, admin: Client, world: World) -> None:
    raise_alert("worker_gone", Severity.CRITICAL, "worker_gone", {})
    soon = timezone.now() + timedelta(days=3)
    Pin.objects.create(
        host="cns.example", spki="x", subject="s", expires_at=soon, created_at=timezone.now()
    )
    device = make_device(world.mine)
    Subscription.objects.create(
        mailbox=device.mailbox, owner=device, state="lost", reason="silent", ews_url="https://x"
    )
    foreign = make_device(world.foreign)
    Subscription.objects.create(mailbox=foreign.mailbox, owner=foreign, state="lost")
    page = chief.get(BASE).content.decode()
    assert "No worker is at work." in page and "Start workers and beat" in page
    assert "pinned certificate of cns.example expires in 2 days" in page
    assert page.index("No worker") < page.index("pinned certificate")
    theirs = admin.get(BASE).content.decode()
    assert "1 mailbox any more" in theirs
    assert "No worker" not in theirs and "cns.example" not in theirs and FOREIGN not in theirs


def test_every_page_names_the_release(admin: Client) -> None:
    for page in (BASE, f"{BASE}devices/device/"):
        assert f"Release {__version__}" in admin.get(page).content.decode()


def test_counts_of_all_are_for_those_who_see_all(
    chief: Client, admin: Client, world: World
) -> None:
    count(names.ANNOUNCED, 1200)
    for bucket, n in (("250", 60), ("500", 30), ("2500", 10)):
        count(f"{names.LATENCY}.{bucket}", n)
    count(f"{names.PUSHES}.dead", 3)
    make_device(world.below)
    make_device(world.foreign)
    found = chief.get(FIGURES, headers={"X-ENS-Poll": "1"}).json()
    numbers = found["numbers"]
    assert numbers["announced"] == "1,200" and numbers["pushes_refused"] == "3"
    assert (numbers["p50"], numbers["p95"]) == ("≤ 250 ms", "≤ 2.5 s")
    assert sum(found["charts"]["announced"]["datasets"][0]["data"]) == 1200
    theirs = admin.get(FIGURES).json()
    assert theirs["numbers"]["devices_active"] == "1"
    assert "announced" not in theirs["numbers"] and "pushes" not in theirs["charts"]


def test_the_guide_is_ticked_by_facts_until_a_phone_rings(admin: Client, world: World) -> None:
    page = admin.get(BASE).content.decode()
    assert "Until the first phone rings" in page
    assert page.count("Done: ") == 1  # the group
    assert "Secure Channel Certificate</a>" not in page  # a system administrator's
    mail_system_of(world.mine)
    issue_token(world.mine, "phones")
    assert admin.get(BASE).content.decode().count("Done: ") == 3
    make_device(world.mine)
    assert admin.get(BASE).content.decode().count("Done: ") == 5
    count(names.ANNOUNCED, 1)
    assert "Until the first phone rings" not in admin.get(BASE).content.decode()


@pytest.mark.parametrize(
    ("buckets", "words"),
    [({100: 0, "inf": 0}, "–"), ({100: 1, "inf": 1}, "> 300 s"), ({100: 19, 250: 1}, "≤ 100 ms")],
)
def test_a_quantile_is_its_buckets_upper_bound(buckets: dict[int | str, int], words: str) -> None:
    assert dashboard.quantile(buckets, 0.95) == words


def test_pages_that_are_not_there_stand_in_the_frame(admin: Client, world: World) -> None:
    answer = admin.get(f"{BASE}no/such/page/")
    assert answer.status_code == 404 and b"Back to the dashboard" in answer.content
    assert b"Back to the dashboard" not in Client().get("/no/such/page/").content
