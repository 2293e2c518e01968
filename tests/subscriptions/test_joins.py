"""The stream of joins: no mail server's joins wait for those at another one that hangs.

Two pretend Exchanges on real sockets, and the log as it is in the product.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import transaction

from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import NewEntry
from apps.eventlog.models import LogEntry
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials
from apps.exchange.limits import LimitedServer
from apps.lab.exchange import LabExchange
from apps.subscriptions import joining, joins
from apps.subscriptions.database import in_joins_database
from apps.subscriptions.entries import JOIN
from apps.subscriptions.joining import Joiner
from apps.subscriptions.joins import Joins
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system
from apps.tenants.models import MailSystem, OrganizationGroup
from tests.subscriptions.test_joining import as_claimed

pytestmark = pytest.mark.django_db(transaction=True)

USERS = 90


class Site:
    """One organization with two mail systems."""

    def __init__(self, healthy: LabExchange, hanging: LabExchange, server: EwsServer) -> None:
        self.healthy, self.hanging = healthy, hanging
        limited = LimitedServer(server, 64)
        self.joins = Joins(get_log(), Joiner(get_log(), limited, lambda: None), "worker")
        self.og: OrganizationGroup
        self.systems: dict[str, MailSystem] = {}

    def set_up(self) -> None:
        self.og = create_group("Example")
        for lab in (self.healthy, self.hanging):
            host = lab.url.split("/")[2]
            self.systems[lab.url] = add_mail_system(self.og, host, [host], ca_pem=lab.ca_pem)

    @transaction.atomic
    def begin(self, lab: LabExchange, number: int) -> Device:
        address, url = f"user{number}@example.com", lab.url
        made = registry.enrol(
            self.og,
            registry.mailbox_for(self.systems[url], address),
            Description(
                platform="ios",
                app_id="com.example.mail",
                push_token=f"{number:064x}",
                ews_url=url,
            ),
        )
        assert made is not None
        credentials = Credentials("basic", f"EXAMPLE\\user{number}", f"word-{number}")
        get_log().append(joining.begin(made[0], address, credentials))
        return made[0]


@pytest.fixture
async def site(live_server: Any, settings: Any) -> AsyncIterator[Site]:
    settings.ENS = settings.ENS.model_copy(
        update={
            "link_address": f"{live_server.url}/MailNotificationService/api/ens",
            "guard_exceptions": [ip_network("127.0.0.0/8")],
        }
    )
    async with LabExchange() as healthy, LabExchange() as hanging:
        for lab in (healthy, hanging):
            for number in range(USERS):
                lab.add_mailbox(f"user{number}@example.com", f"User {number}", f"word-{number}")
        server = EwsServer("0.1.0")
        made = Site(healthy, hanging, server)
        await in_joins_database(made.set_up)
        yield made
        hanging.faults.clear()
        await server.close()


async def test_one_server_that_hangs_does_not_keep_anothers_phones_waiting(site: Site) -> None:
    before = await _time_to_join(site, 0, asyncio.create_task(site.joins.run(0.2, 0.2)))
    site.hanging.faults.add("hang", seconds=600)
    # More than may be under way, and more than are kept at hand.
    for number in range(1, USERS):
        await in_joins_database(site.begin, site.hanging, number)
    run = asyncio.create_task(site.joins.run(0.2, 0.2))
    await asyncio.sleep(2.0)  # the run's own time is over
    meanwhile = await _time_to_join(site, 1, run)
    assert meanwhile < before + 1.0, f"{before:.2f} s before, {meanwhile:.2f} s meanwhile"
    site.joins.stop()
    site.hanging.faults.clear()
    await run


async def test_one_server_never_gets_more_than_its_share_of_the_joins(site: Site) -> None:
    site.hanging.faults.add("hang", seconds=600)
    for number in range(USERS):
        await in_joins_database(site.begin, site.hanging, number)
    run = asyncio.create_task(site.joins.run(5.0, 0.2))
    await _until(lambda: len(site.joins._running) > joins.AT_ONCE)
    await asyncio.sleep(0.5)
    assert sum(site.hanging.counters()["calls"].values()) <= joins.AT_ONCE
    site.joins.stop()
    site.hanging.faults.clear()
    await run


async def test_what_a_phone_names_on_a_host_takes_no_turns_of_its_ews(site: Site) -> None:
    """Some path of a host may hang for ever, and an API token is all it takes to name it."""

    def hosts() -> list[str]:
        site.begin(site.healthy, 1)
        site.begin(site.healthy, 2)
        url = site.healthy.url.replace("/EWS/Exchange.asmx", "/hangs")
        Subscription.objects.filter(id=Subscription.objects.first().pk).update(ews_url=url)  # type: ignore[union-attr]
        rows = LogEntry.objects.all()
        taken = [as_claimed(NewEntry(row.kind, row.partition, bytes(row.payload))) for row in rows]
        return sorted(joins._hosts(taken).values())

    host = site.healthy.url.split("/")[2]
    assert await in_joins_database(hosts) == [host, f"{host}, another path"]


async def test_a_worker_that_is_told_to_end_hands_back_what_it_has_not_begun(site: Site) -> None:
    site.hanging.faults.add("hang", seconds=600)
    for number in range(USERS):
        await in_joins_database(site.begin, site.hanging, number)
    run = asyncio.create_task(site.joins.run(5.0, 0.2))
    await _until(lambda: len(site.joins._running) > joins.AT_ONCE)
    site.joins.stop()
    site.hanging.faults.clear()
    began = time.monotonic()
    await run
    assert time.monotonic() - began < 2 * joining.DEADLINE_S
    left = await in_joins_database(get_log().depth, JOIN)
    assert 0 < left <= USERS - 1
    assert not await in_joins_database(LogEntry.objects.exclude(holder="").exists)


async def test_an_entry_that_can_not_be_read_stops_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for partition, payload in (("no name of ours", b"{}"), ("A" * 22, b"secret-in-an-entry")):
        await in_joins_database(get_log().append, NewEntry(JOIN, partition, payload))
    await _time_to_join(site, 0, asyncio.create_task(site.joins.run(0.2, 0.2)))
    assert await in_joins_database(get_log().depth, JOIN) == 2
    assert "secret-in-an-entry" not in caplog.text


async def _time_to_join(site: Site, number: int, run: asyncio.Task[int]) -> float:
    device = await in_joins_database(site.begin, site.healthy, number)
    began = time.monotonic()

    async def active() -> bool:
        await in_joins_database(device.refresh_from_db)
        return device.state == "active"

    while not await active():
        assert time.monotonic() - began < 20, "it does not join"
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    if number == 0:
        await run
    return took


async def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it does not come true"
        await asyncio.sleep(0.02)
