"""Joins of phones that bring no EWS address, against the lab's Exchange and its Autodiscover.

The SRV record leads there: of all ways it is the one that can name a free port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import transaction

from apps.devices import registry
from apps.devices.models import Device
from apps.devices.registry import Description
from apps.eventlog.factory import get_log
from apps.eventlog.interface import Entry
from apps.exchange.ews.server import EwsServer
from apps.exchange.interface import Credentials
from apps.exchange.limits import LimitedServer
from apps.lab.exchange import LabExchange
from apps.lab.exchange.autodiscover import Detour
from apps.subscriptions import addresses, joining
from apps.subscriptions.database import in_database
from apps.subscriptions.joining import Joiner
from apps.subscriptions.joins import _hosts
from apps.subscriptions.models import Subscription
from apps.tenants.groups import create_group
from apps.tenants.mail_systems import add_mail_system, mail_system_for
from apps.tenants.models import MailSystem
from tests.exchange.dns_server import NameServer, name_server
from tests.subscriptions.test_joining import as_claimed, state

pytestmark = pytest.mark.django_db(transaction=True)

ANNA = Credentials("basic", "CORP\\anna", "anna-lab-1")
# Of names below `localhost` nobody outside is asked.
ADDRESS = "anna@corp.localhost"
RECORD = "_autodiscover._tcp.corp.localhost"
EWS = "/EWS/Exchange.asmx"


class Company:
    """A group whose mail system knows its domain and has no EWS address."""

    def __init__(self, lab: LabExchange, dns: NameServer, server: EwsServer) -> None:
        self.lab, self.dns = lab, dns
        self.joiner = Joiner(get_log(), LimitedServer(server, 8), lambda: None)
        self.port = urlsplit(lab.url).port
        self.system: MailSystem

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}{EWS}"

    def set_up(self) -> None:
        og = create_group("Example")
        self.system = add_mail_system(
            og,
            "Exchange",
            [f"localhost:{self.port}"],
            ca_pem=self.lab.ca_pem,
            smtp_domains=["corp.localhost"],
        )

    @transaction.atomic
    def enrol(self, push_token: str = "ab" * 32) -> Device:
        system, url = mail_system_for(self.system.og, None, ADDRESS)
        assert (system, url) == (self.system, "")
        made = registry.enrol(
            self.system.og,
            registry.mailbox_for(system, ADDRESS),
            Description("ios", "com.example.mail", push_token, url),
        )
        assert made is not None
        return made[0]

    def begin(self, device: Device, credentials: Credentials = ANNA) -> Entry:
        device.refresh_from_db()
        return as_claimed(joining.begin(device, ADDRESS, credentials))

    async def join(self, device: Device, credentials: Credentials = ANNA) -> tuple[str, str]:
        """Let a device join until its entry is done with; its state."""
        entry = await in_database(self.begin, device, credentials)
        for _ in range(5):
            if await self.joiner.finish(entry) is None:
                break
        else:
            raise AssertionError("never done with")
        return await in_database(state, device)

    def asked(self) -> int:
        return sum(self.lab.autodiscover.asked.values())

    async def joined(self) -> Device:
        device = await in_database(self.enrol)
        assert await self.join(device) == ("active", "")
        return device


@pytest.fixture
async def company(live_server: Any, settings: Any) -> AsyncIterator[Company]:
    settings.ENS = settings.ENS.model_copy(
        update={
            "link_address": f"{live_server.url}/MailNotificationService/api/ens",
            "guard_exceptions": [ip_network("127.0.0.0/8")],
        }
    )
    lab = LabExchange()
    lab.add_mailbox(ADDRESS, "Anna", ANNA.password, username="anna", domain="CORP")
    async with lab, name_server() as dns:
        server = EwsServer("0.1.0", name_servers=[dns.address])
        made = Company(lab, dns, server)
        dns.records[RECORD] = [f"0 0 {made.port} localhost."]
        await in_database(made.set_up)
        yield made
        await server.close()


def age(minutes: float) -> Callable[[], None]:
    def older() -> None:
        for row in Subscription.objects.filter(state="pending"):
            row.created_at -= timedelta(minutes=minutes)
            row.save()

    return older


async def test_the_worker_finds_the_address_and_goes_on(company: Company) -> None:
    device = await in_database(company.enrol)
    entry = await in_database(company.begin, device)
    # Its turn goes by the mail system until the host is known.
    hosts = await in_database(_hosts, [entry])
    assert hosts == {entry.partition: f"mail system {company.system.pk}"}
    assert await company.joiner.finish(entry) is None
    assert await in_database(state, device) == ("active", "")
    assert (device.ews_url, device.discovered_ews_url) == ("", company.url)
    subscription = await in_database(Subscription.objects.get)
    assert (subscription.state, subscription.ews_url) == ("active", company.url)


async def test_what_was_found_is_tried_first_the_next_time(company: Company) -> None:
    device = await company.joined()
    company.dns.records.clear()
    company.lab.autodiscover.detours = [Detour("missing")]
    asked = company.asked()
    assert await company.join(device) == ("active", "")
    assert company.asked() == asked


async def test_another_phone_of_the_mailbox_asks_by_itself(company: Company) -> None:
    await company.joined()
    other = await in_database(company.enrol, "cd" * 32)
    asked = company.asked()
    assert await company.join(other) == ("active", "")
    assert company.asked() == asked + 1


class TestWhatWasFoundIsNoLongerGood:
    async def test_ews_is_gone_from_there(self, company: Company) -> None:
        device = await company.joined()
        await in_database(remember, device, f"https://localhost:{company.port}/elsewhere")
        assert await company.join(device) == ("active", "")
        assert device.discovered_ews_url == company.url

    async def test_the_host_is_no_longer_listed(self, company: Company) -> None:
        device = await company.joined()
        await in_database(remember, device, "https://old.example.com/EWS/Exchange.asmx")
        assert await company.join(device) == ("active", "")
        assert device.discovered_ews_url == company.url

    async def test_nobody_answers_for_minutes(self, company: Company) -> None:
        device = await company.joined()
        await in_database(list_also, company.system, "localhost:9")
        away = "https://localhost:9/EWS/Exchange.asmx"
        await in_database(remember, device, away)
        entry = await in_database(company.begin, device)
        asked = company.asked()
        assert (await company.joiner.finish(entry) or 0) > 1
        assert company.asked() == asked
        await in_database(age(3))
        assert (await company.joiner.finish(entry) or 99) < 1
        await in_database(device.refresh_from_db)
        # Autodiscover may be away as well, and this one come back.
        assert device.discovered_ews_url == away
        assert await company.joiner.finish(entry) is None
        assert await in_database(state, device) == ("active", "")
        assert device.discovered_ews_url == company.url

    async def test_nobody_answers_where_autodiscover_still_leads_to(self, company: Company) -> None:
        device = await company.joined()
        await in_database(list_also, company.system, "localhost:9")
        away = "https://localhost:9/EWS/Exchange.asmx"
        await in_database(remember, device, away)
        company.lab.autodiscover.ews_url = away
        entry = await in_database(company.begin, device)
        await in_database(age(3))
        assert (await company.joiner.finish(entry) or 99) < 1
        asked = company.asked()
        # Asked once, it is not asked twice a second for as long as the server is away.
        assert (await company.joiner.finish(entry) or 0) > 1
        assert (await company.joiner.finish(entry) or 0) > 1
        assert company.asked() == asked + 1
        await in_database(age(11))
        assert await company.joiner.finish(entry) is None

    async def test_asking_again_finds_the_same(self, company: Company) -> None:
        device = await company.joined()
        dead = f"https://localhost:{company.port}/elsewhere"
        await in_database(remember, device, dead)
        company.lab.autodiscover.ews_url = dead
        assert await company.join(device) == ("refused", "not_ews")
        assert device.discovered_ews_url == ""

    async def test_autodiscover_was_switched_off(self, company: Company) -> None:
        device = await company.joined()
        await in_database(remember, device, "https://old.example.com/EWS/Exchange.asmx")
        await in_database(MailSystem.objects.update, autodiscover=False)
        assert await company.join(device) == ("refused", "ews_url_not_allowed")
        fresh = await in_database(company.begin, await in_database(forgetful, device))
        assert await company.joiner.finish(fresh) is None
        assert await in_database(state, device) == ("refused", "autodiscover_failed")


class TestRefusals:
    async def test_nothing_tells_where(self, company: Company) -> None:
        company.dns.records.clear()
        device = await in_database(company.enrol)
        assert await company.join(device) == ("refused", "autodiscover_failed")

    async def test_it_leads_to_a_host_that_is_not_listed(self, company: Company) -> None:
        company.lab.autodiscover.ews_url = "https://mail.elsewhere.example/EWS/Exchange.asmx"
        device = await in_database(company.enrol)
        assert await company.join(device) == ("refused", "autodiscover_not_allowed_host")
        assert not await in_database(
            Subscription.objects.filter(ews_url__contains="elsewhere").exists
        )

    async def test_the_name_servers_are_away(self, company: Company) -> None:
        company.dns.silent = True
        device = await in_database(company.enrol)
        entry = await in_database(company.begin, device)
        assert (await company.joiner.finish(entry) or 0) > 1
        assert await in_database(state, device) == ("joining", "")
        company.dns.silent = False
        assert await company.joiner.finish(entry) is None
        assert await in_database(state, device) == ("active", "")

    async def test_a_wrong_password_is_one_refused_login(self, company: Company) -> None:
        device = await in_database(company.enrol)
        wrong = Credentials("basic", ANNA.username, "guess")
        assert await company.join(device, wrong) == ("refused", "credentials_refused")
        # And is remembered: nobody asks again with it.
        again = await in_database(company.enrol)
        assert await company.join(again, wrong) == ("refused", "credentials_refused")
        assert sum(company.lab.counters()["unauthorized"].values()) == 1

    async def test_what_was_found_outlasts_a_try_that_failed(self, company: Company) -> None:
        device = await in_database(company.enrol)
        entry = await in_database(company.begin, device)
        company.lab.faults.add("moving", 60)
        assert (await company.joiner.finish(entry) or 0) > 1
        company.lab.faults.clear()
        await asyncio.sleep(1.1)  # so long a throttled account is left alone at least
        asked = company.asked()
        await in_database(company.dns.records.clear)
        assert await company.joiner.finish(entry) is None
        assert await in_database(state, device) == ("active", "")
        assert company.asked() == asked


def remember(device: Device, url: str) -> None:
    """As if an earlier join had been proved there; serve the mailbox no longer."""
    Device.objects.filter(id=device.pk).update(discovered_ews_url=url)


def list_also(system: MailSystem, host: str) -> None:
    MailSystem.objects.filter(pk=system.pk).update(hosts=[*system.hosts, host])


def forgetful(device: Device) -> Device:
    Device.objects.filter(id=device.pk).update(discovered_ews_url="", state="joining")
    return device


def test_a_given_address_is_never_replaced() -> None:
    device = Device(ews_url="https://a.example/", discovered_ews_url="https://b.example/")
    assert addresses.first_choice(device) == "https://a.example/"
    assert not addresses.is_remembered(Subscription(ews_url="https://b.example/"), device)
