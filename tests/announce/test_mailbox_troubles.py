"""A mailbox in trouble, fetched from over sockets: mail is told plainly or looked for again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from apps.announce.mailbox_job import MailboxJob
from apps.eventlog.table import TableLog
from apps.exchange.ews.notification import Event
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials, Endpoint
from apps.exchange.limits import LimitedServer
from apps.lab.exchange import LabExchange
from apps.subscriptions.database import in_database
from apps.subscriptions.entries import MailWork
from tests.announce.test_mailbox_job import Site

pytestmark = pytest.mark.django_db(transaction=True)

PASSING: list[dict[str, Any]] = [
    {"kind": "moving"},
    {"kind": "error", "code": "ErrorMailboxStoreUnavailable"},
    {"kind": "error", "code": "ErrorMailboxFailover", "wrapped": True},
    {"kind": "error", "code": "ErrorTooManyObjectsOpened"},
    {"kind": "too_many_requests", "retry_after": "date", "retry_after_s": 60},
    {"kind": "unavailable", "retry_after": "seconds", "retry_after_s": 60},
    {"kind": "busy", "back_off_ms": 60_000},
]


@dataclass
class World:
    """The mailbox job's site with the lab's Exchange and limits as in a worker."""

    site: Site
    lab: LabExchange

    def mail(self) -> MailWork:
        item = self.lab.deliver("anna@example.com", "Ben", "ben@example.com", "Lunch?")
        return MailWork("c", events=(Event("NewMail", item_id=item),))

    def gap(self) -> MailWork:
        self.lab.deliver("anna@example.com", "Ben", "ben@example.com", "Missed")
        return MailWork("c", catch_up_since=self.lab.clock.now() - timedelta(minutes=1))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with LabExchange() as lab:
        lab.add_demo_accounts()
        site = await in_database(Site)
        ews = EwsServer("0.1.0")
        site.job = MailboxJob(TableLog(), LimitedServer(ews, 8), site.pushers)  # type: ignore[arg-type]
        networks = (ip_network("127.0.0.0/8"),)
        site.endpoint = Endpoint(lab.url, ca_pem=lab.ca_pem, exceptions=networks)
        site.credentials = Credentials("basic", "anna@example.com", "anna-lab-1")
        yield World(site, lab)
        await ews.close()


@pytest.mark.parametrize(
    "trouble", PASSING, ids=lambda trouble: "-".join(map(str, trouble.values()))
)
async def test_new_mail_is_told_and_a_gap_is_looked_for_again(
    world: World, trouble: dict[str, Any]
) -> None:
    world.lab.faults.add(seconds=600, address="anna@example.com", **trouble)
    outcome = await world.site.run(world.mail())
    assert world.site.relay.titles == ["New mail"]
    assert outcome.retry_after_s is None
    outcome = await world.site.run(world.gap())
    assert outcome.retry_after_s is not None and not outcome.caught_up
    world.lab.faults.clear()
    if outcome.retry_after_s < 10:
        outcome = await world.site.run(world.gap())
        assert outcome.caught_up


async def test_what_passes_in_seconds_costs_no_details(world: World) -> None:
    world.lab.faults.add("busy", 0.5, address="anna@example.com", back_off_ms=400)
    await world.site.run(world.mail())
    assert world.site.relay.titles == ["Ben"]


async def test_a_changed_password_is_refused_once_and_the_mail_is_told(world: World) -> None:
    work = world.mail()
    world.lab.set_password("anna@example.com", "new")
    await world.site.run(work)
    assert world.site.relay.titles == ["New mail"]
    assert sum(world.lab.counters()["unauthorized"].values()) == 1


async def test_a_changed_address_does_not_matter_to_a_fetch(world: World) -> None:
    world.lab.change_address("anna@example.com", "anna.miller@example.com", keep_old=False)
    world.site.credentials = Credentials("basic", "EXAMPLE\\anna", "anna-lab-1")
    item = world.lab.deliver("anna.miller@example.com", "Ben", "ben@example.com", "Lunch?")
    await world.site.run(MailWork("c", events=(Event("NewMail", item_id=item),)))
    assert world.site.relay.titles == ["Ben"]
